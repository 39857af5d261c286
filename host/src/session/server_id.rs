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
    let key = etcd.keys().next_server_id();
    loop {
        let answer = etcd.get("read the next server id", key.as_str(), None).await?;
        // The counter holds the next id; where there is none yet that is 1.
        let (next, unchanged) = match answer.kvs().first() {
            None => (1, Compare::create_revision(key.as_str(), CompareOp::Equal, 0)),
            Some(stored) => {
                let next = parse(stored.value()).ok_or_else(|| SessionError::Counter {
                    key: key.clone(),
                    value: String::from_utf8_lossy(stored.value()).into_owned(),
                })?;
                (next, Compare::mod_revision(key.as_str(), CompareOp::Equal, stored.mod_revision()))
            }
        };
        let put = TxnOp::put(key.as_str(), (next + 1).to_string(), None::<PutOptions>);
        let answer = etcd.txn("take a server id", Txn::new().when([unchanged]).and_then([put])).await?;
        if answer.succeeded() {
            return Ok(ServerId(next));
        }
        tokio::time::sleep(LONGEST_PAUSE.mul_f64(fastrand::f64())).await;
    }
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
