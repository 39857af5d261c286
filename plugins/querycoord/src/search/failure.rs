//! What a node's failure means for a search.

use plugin_api::refusal::key;
use plugin_api::{Reason, Refusal};
use tonic::{Code, Status};

/// The longest text of one node that is handed on, in characters.
const LONGEST_REASON: usize = 400;

/// The longest text of an error, in characters: it goes out in a header, and 16 KiB is what many readers take at most.
const LONGEST_ERROR: usize = 2000;

/// What a node's failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It does not hold a segment; it may have been moved just now.
    NotHeld,
    /// It holds this segment, but not another of the same call.
    InBadCompany,
    /// It has too many searches.
    Exhausted,
    /// The link to it broke, or is being made: it may be there again in a moment.
    LinkLost,
    /// The search itself cannot be: no other node would answer otherwise.
    Refused,
    /// Anything else: another node may do better.
    Other,
}

impl Failure {
    /// What this status means.
    pub(crate) fn of(node: i64, status: &Status) -> Self {
        match status.code() {
            Code::NotFound => Self::NotHeld,
            Code::ResourceExhausted => Self::Exhausted,
            Code::InvalidArgument => Self::Refused,
            Code::Unavailable if is_passing(node, status) => Self::LinkLost,
            _ => Self::Other,
        }
    }
}

/// Is the link to this node about to be there again? What a node hands on of its own calls names another target, and says
/// nothing of ours.
fn is_passing(node: i64, status: &Status) -> bool {
    Refusal::from_status(status).is_some_and(|refusal| {
        let target = refusal.details.get(key::TARGET);
        target.is_some_and(|target| *target == format!("querynode-{node}"))
            && matches!(refusal.reason, Reason::LinkLost | Reason::Connecting)
    })
}

/// What a node said, for people.
pub(crate) fn reason(node: i64, status: &Status) -> String {
    cut(format!("querynode-{node}: {:?}: {}", status.code(), status.message()), LONGEST_REASON)
}

/// These reasons, each once, as far as they fit into an error.
pub(crate) fn some_of(mut reasons: Vec<String>) -> String {
    reasons.sort_unstable();
    reasons.dedup();
    cut(reasons.join("; "), LONGEST_ERROR)
}

fn cut(mut text: String, longest: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(longest) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Reason, target: &str) -> Status {
        Refusal::new(reason, "no").with(key::TARGET, target).into_status()
    }

    #[test]
    fn only_a_link_to_this_very_node_may_be_back() {
        let cases = [
            (refusal(Reason::LinkLost, "querynode-7"), Failure::LinkLost),
            (refusal(Reason::Connecting, "querynode-7"), Failure::LinkLost),
            // The node handed on what it heard of RootCoord, or another node.
            (refusal(Reason::LinkLost, "rootcoord"), Failure::Other),
            (refusal(Reason::LinkLost, "querynode-8"), Failure::Other),
            (refusal(Reason::SessionGone, "querynode-7"), Failure::Other),
            (refusal(Reason::ConnectFailed, "querynode-7"), Failure::Other),
            (Status::unavailable("no"), Failure::Other),
            (Status::deadline_exceeded("no"), Failure::Other),
            (Status::internal("no"), Failure::Other),
            (Status::not_found("no"), Failure::NotHeld),
            (Status::resource_exhausted("no"), Failure::Exhausted),
            (Status::invalid_argument("no"), Failure::Refused),
        ];
        for (status, expected) in cases {
            assert_eq!(Failure::of(7, &status), expected, "{status}");
        }
    }

    #[test]
    fn long_texts_are_cut_and_equal_ones_told_once() {
        let long = "ä".repeat(5000);
        let told = reason(1, &Status::internal(&long));
        assert!(told.starts_with("querynode-1: Internal: ää") && told.ends_with("ä…"), "{told}");
        assert_eq!(told.chars().count(), LONGEST_REASON + 1);
        let all = (0..100).map(|node| reason(node, &Status::internal(&long))).collect();
        assert_eq!(some_of(all).chars().count(), LONGEST_ERROR + 1);
        assert_eq!(some_of(["b", "a", "b"].map(str::to_owned).into()), "a; b");
    }
}
