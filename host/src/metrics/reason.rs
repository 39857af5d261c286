//! The reason of a refusal, read off a status without its other details: they are for whoever called, and 1,000 calls may
//! be cut at once.

use plugin_api::refusal::{DOMAIN, Reason};
use prost::Message;
use prost_types::Any;
use tonic::Status;

/// The type of the detail that holds the reason.
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Of `google.rpc.Status`, what is looked at.
#[derive(Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// Of `google.rpc.ErrorInfo`, what is looked at.
#[derive(Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

/// The reason that this status gives, where it is a refusal.
pub(super) fn reason_of(status: &Status) -> Option<Reason> {
    let details = Details::decode(status.details()).ok()?.details;
    let info = details.iter().find(|detail| detail.type_url == ERROR_INFO)?;
    let info = ErrorInfo::decode(&*info.value).ok().filter(|info| info.domain == DOMAIN)?;
    info.reason.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use plugin_api::refusal::{Refusal, key};
    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn it_is_the_reason_of_the_whole_refusal() {
        for reason in Reason::ALL {
            let status = Refusal::new(*reason, "why").with(key::ROLE, "rootcoord").with(key::TRIES, 3).into_status();
            assert_eq!(reason_of(&status), Refusal::from_status(&status).map(|refusal| refusal.reason));
        }
        let mut details = ErrorDetails::with_error_info("SESSION_GONE", "example.org", HashMap::new());
        assert_eq!(reason_of(&Status::with_error_details(Code::Unavailable, "no", details.clone())), None);
        details.set_error_info("SESSION_GONE", DOMAIN, HashMap::new());
        details.set_retry_info(None);
        let status = Status::with_error_details(Code::Unavailable, "no", details);
        assert_eq!(reason_of(&status), Some(Reason::SessionGone), "other details do not hide it");
        assert_eq!(reason_of(&Status::unavailable("no details")), None);
    }
}
