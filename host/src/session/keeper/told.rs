//! Which changes of a session are worth a line of the log: each once, whatever the causes that follow.

use plugin_api::peers::Registration;

use crate::session::status::SessionStatus;

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The registration of the active key that was told of last.
    registered: Option<Registration>,
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// The key was put.
    Registered(Registration),
    /// It was uncertain, and is there as it was.
    Kept(Registration),
    /// Nobody knows any more whether it is there.
    Uncertain {
        /// The key that it had; none where that is not known.
        key: Option<&'a str>,
        /// Why.
        cause: &'a str,
    },
    /// It was deleted, and is not put again.
    Deleted,
}

impl Told {
    /// What is to be told of the way from one status to another.
    pub(super) fn line<'a>(&mut self, before: &'a SessionStatus, now: &'a SessionStatus) -> Option<Line<'a>> {
        if !before.differs_from(now) {
            return None;
        }
        match now {
            SessionStatus::Held(held) => {
                let registration = held.registration;
                let kept = self.registered.replace(registration) == Some(registration);
                Some(if kept { Line::Kept(registration) } else { Line::Registered(registration) })
            }
            // While it lasts each failure is another cause: those are told where they happen.
            SessionStatus::Lost { .. } if matches!(before, SessionStatus::Lost { .. }) => None,
            SessionStatus::Lost { cause, .. } => {
                let key = match before {
                    SessionStatus::Held(held) => Some(held.key.as_str()),
                    SessionStatus::StandBy(standby) => Some(standby.key.as_str()),
                    _ => None,
                };
                Some(Line::Uncertain { key, cause })
            }
            SessionStatus::Deleted { .. } => Some(Line::Deleted),
            // A holder is reported when its lease is known, and the first failures where they happen.
            SessionStatus::Registering { .. }
            | SessionStatus::HeldByOther { .. }
            | SessionStatus::StandBy(_)
            | SessionStatus::Revoked => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::clock::BootTime;
    use crate::session::status::{Held, Holder, StandBy};

    const NOW: BootTime = BootTime::after_boot(Duration::from_secs(100));

    fn registration(create_revision: i64) -> Registration {
        Registration { create_revision, lease_id: 5 }
    }

    fn held(revision: i64) -> SessionStatus {
        SessionStatus::Held(Held { key: "rootcoord".to_owned(), registration: registration(revision), deadline: NOW })
    }

    fn lost(cause: &str) -> SessionStatus {
        SessionStatus::Lost { since: NOW, cause: cause.to_owned() }
    }

    #[test]
    fn an_outage_is_told_once_and_its_end_says_what_etcd_has_kept() {
        let ways = [held(7), lost("silent"), lost("refused"), lost("refused"), held(7), lost("gone"), held(9)];
        let (mut told, mut before) = (Told::default(), SessionStatus::Registering { since: NOW, last_error: None });
        let mut lines = Vec::new();
        for now in &ways {
            lines.extend(told.line(&before, now).map(|line| format!("{line:?}")));
            before.clone_from(now);
        }
        let uncertain = |cause| Line::Uncertain { key: Some("rootcoord"), cause };
        let expected = [
            Line::Registered(registration(7)),
            uncertain("silent"),
            Line::Kept(registration(7)),
            uncertain("gone"),
            Line::Registered(registration(9)),
        ];
        assert_eq!(lines, expected.map(|line| format!("{line:?}")));
    }

    #[test]
    fn a_standby_that_is_uncertain_is_named_by_its_own_key() {
        let holder =
            Holder { server_id: None, address: String::new(), host_name: String::new(), lease_id: 6, lease_left: None };
        let key = "rootcoord-3".to_owned();
        let standby =
            SessionStatus::StandBy(StandBy { key, registration: registration(7), deadline: NOW, since: NOW, holder });
        let (mut told, lost) = (Told::default(), lost("silent"));
        let expected = Line::Uncertain { key: Some("rootcoord-3"), cause: "silent" };
        assert_eq!(told.line(&standby, &lost), Some(expected));
    }
}
