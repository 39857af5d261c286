//! How long a call may take: our own limit, and what its caller has left; and was it answered at all?

use std::future::Future;
use std::time::Duration;

use plugin_api::call::parse_timeout;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// Of a caller's time the calls to nodes get so much; the rest is for sending the answer.
const SHARE: f64 = 0.9;

/// The answer, or `DEADLINE_EXCEEDED` after this time.
pub(crate) async fn limited<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

/// Did the one that was called not answer, so that another may be asked? Any other status is its answer.
pub(crate) fn is_unanswered(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

/// Our limit, or less where the caller waits for less: it then gets a partial answer in time, in place of none.
pub(crate) fn within(limit: Duration, caller: &MetadataMap) -> Duration {
    let timeout = caller.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    timeout.map_or(limit, |timeout| limit.min(timeout.mul_f64(SHARE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_time_counts_where_it_is_shorter() {
        let cases = [
            ("1S", 900),
            ("99999999H", 5000),
            ("2M", 5000),
            ("100m", 90),
            ("100000u", 90),
            ("20000000n", 18),
            ("S", 5000),
            ("", 5000),
            ("1x", 5000),
            ("123456789m", 5000),
            ("-1S", 5000),
        ];
        for (timeout, milliseconds) in cases {
            let mut caller = MetadataMap::new();
            caller.insert("grpc-timeout", timeout.parse().unwrap());
            assert_eq!(within(Duration::from_secs(5), &caller), Duration::from_millis(milliseconds), "{timeout}");
        }
        assert_eq!(within(Duration::from_secs(5), &MetadataMap::new()), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_at_the_limit() {
        let error = limited(Duration::from_secs(5), std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!(error.message(), "no answer within 5s");
    }
}
