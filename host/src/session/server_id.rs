//! The id of this host process: the next number of a counter in etcd. Gaps do not matter, a number given twice would.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use plugin_api::identity::ServerId;

use crate::etcd::Etcd;
use crate::session::SessionError;

/// Those who lost a race wait for up to this long before they try again, so that they do not meet once more.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Takes the next server id. Contention is retried without a limit.
///
/// # Errors
///
/// Where etcd does not answer, or the counter is no number.
pub async fn take_server_id(etcd: &Etcd) -> Result<ServerId, SessionError> {
    loop {
        let counter = Counter::read(etcd).await?;
        if counter.set(etcd, "take a server id", counter.next + 1).await? {
            return Ok(ServerId(counter.next));
        }
        pause().await;
    }
}

/// After etcd has lost its data: from now on only ids above this one are given out, so that none that a living host has is
/// given out again. Returns the next one. A counter that is above it already stays as it is.
///
/// # Errors
///
/// Where etcd does not answer, or the counter is no number.
pub async fn raise_server_ids(etcd: &Etcd, above: ServerId) -> Result<ServerId, SessionError> {
    // A counter that is at its end could not be read any more.
    let wanted = above.0.saturating_add(1).min(i64::MAX - 1);
    loop {
        let counter = Counter::read(etcd).await?;
        if counter.next >= wanted {
            return Ok(ServerId(counter.next));
        }
        if counter.set(etcd, "raise the server ids", wanted).await? {
            return Ok(ServerId(wanted));
        }
        pause().await;
    }
}

/// The counter as it was read.
struct Counter {
    key: String,
    /// The next id; where there is no counter yet that is 1.
    next: i64,
    unchanged: Compare,
}

impl Counter {
    async fn read(etcd: &Etcd) -> Result<Self, SessionError> {
        let key = etcd.keys().next_server_id();
        let answer = etcd.get("read the next server id", key.as_str(), None).await?;
        let Some(stored) = answer.kvs().first() else {
            let unchanged = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
            return Ok(Self { key, next: 1, unchanged });
        };
        let unchanged = Compare::mod_revision(key.as_str(), CompareOp::Equal, stored.mod_revision());
        match parse(stored.value()) {
            Some(next) => Ok(Self { key, next, unchanged }),
            None => Err(SessionError::Counter { key, value: String::from_utf8_lossy(stored.value()).into_owned() }),
        }
    }

    /// False: it has changed since it was read.
    async fn set(&self, etcd: &Etcd, doing: &'static str, next: i64) -> Result<bool, SessionError> {
        let put = TxnOp::put(self.key.as_str(), next.to_string(), None::<PutOptions>);
        let txn = Txn::new().when([self.unchanged.clone()]).and_then([put]);
        Ok(etcd.txn(doing, txn).await?.succeeded())
    }
}

async fn pause() {
    tokio::time::sleep(LONGEST_PAUSE.mul_f64(fastrand::f64())).await;
}

/// A counter that can be counted up.
fn parse(value: &[u8]) -> Option<i64> {
    let next: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (next > 0 && next < i64::MAX).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_a_positive_decimal() {
        assert_eq!(parse(b"1"), Some(1));
        for bad in ["", "0", "-1", "x", "1.5", "9223372036854775807", "9223372036854775808"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
