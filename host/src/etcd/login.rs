//! When a token is taken from etcd, when anew, and when not. Pure: it is told what happens, with the time.
//!
//! A token is taken before the first request, and anew for each member that is gone to, since one that has lost its memory
//! has forgotten it; and where etcd says that it is not good any more, or that the users' rights have changed since. Then the
//! request is repeated once. A password that was refused is not tried again at once: each try costs etcd a tenth of a second.

use std::time::{Duration, Instant};

use crate::etcd::error::Fault;

/// How long a refused password is not tried again: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A token that is younger is not doubted because a member was left.
const YOUNG: Duration = Duration::from_secs(1);

/// Who we are to etcd.
#[derive(Debug)]
pub(super) struct Login {
    state: State,
    /// Counts the tokens: a request that was sent with an older one says nothing of this.
    serial: u64,
    refusals: u32,
}

#[derive(Debug)]
enum State {
    /// There is no user: no token is sent, ever.
    Nobody,
    /// A token is to be taken before the next request.
    Wanted,
    /// There is one.
    Held { since: Instant },
    /// etcd has no users: none is sent until it asks.
    NotAsked,
    /// The password was refused.
    Refused { until: Instant, fault: Fault },
}

/// What comes before a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: it is sent, with the token of this number.
    Send(u64),
    /// A token is taken.
    Take,
    /// It is not sent.
    Refuse(Fault),
}

impl Login {
    pub(super) fn new(has_user: bool) -> Self {
        Self { state: if has_user { State::Wanted } else { State::Nobody }, serial: 0, refusals: 0 }
    }

    pub(super) fn has_user(&self) -> bool {
        !matches!(self.state, State::Nobody)
    }

    pub(super) fn before(&self, now: Instant) -> Before {
        match &self.state {
            State::Nobody | State::Held { .. } | State::NotAsked => Before::Send(self.serial),
            State::Wanted => Before::Take,
            State::Refused { until, fault } if now < *until => Before::Refuse(fault.clone()),
            State::Refused { .. } => Before::Take,
        }
    }

    /// etcd gave a token.
    pub(super) fn taken(&mut self, now: Instant) {
        self.serial += 1;
        self.refusals = 0;
        self.state = State::Held { since: now };
    }

    /// etcd has no users.
    pub(super) fn not_asked(&mut self) {
        self.serial += 1;
        self.refusals = 0;
        self.state = State::NotAsked;
    }

    /// etcd does not take the password.
    pub(super) fn refused(&mut self, fault: Fault, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.refusals.min(8)).min(LAST_PAUSE);
        self.refusals = self.refusals.saturating_add(1);
        self.state = State::Refused { until: now + pause, fault };
    }

    /// A request that was sent with the token of that number has failed: is it worth another try?
    pub(super) fn failed(&mut self, fault: &Fault, serial: u64) -> bool {
        if !self.has_user() || !matches!(fault, Fault::Token(_)) {
            return false;
        }
        if serial == self.serial && matches!(self.state, State::Held { .. } | State::NotAsked) {
            self.state = State::Wanted;
        }
        true
    }

    /// The member that was used was left for another one.
    pub(super) fn member_left(&mut self, now: Instant) {
        if matches!(self.state, State::Held { since } if now.duration_since(since) >= YOUNG) {
            self.state = State::Wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::error::Authentication;

    fn old() -> Fault {
        Fault::Token("etcdserver: revision of auth store is old".to_owned())
    }

    fn refusal() -> Fault {
        Fault::Authentication(Authentication::Refused)
    }

    /// With a token that was taken at that time.
    fn logged_in(at: Instant) -> Login {
        let mut login = Login::new(true);
        assert_eq!(login.before(at), Before::Take);
        login.taken(at);
        login
    }

    #[test]
    fn without_a_user_nothing_is_taken() {
        let now = Instant::now();
        let mut login = Login::new(false);
        assert_eq!(login.before(now), Before::Send(0));
        assert!(!login.failed(&old(), 0));
        login.member_left(now + YOUNG);
        assert_eq!(login.before(now), Before::Send(0));
    }

    #[test]
    fn a_token_that_is_not_good_any_more_is_taken_anew_once() {
        let now = Instant::now();
        let mut login = logged_in(now);
        assert_eq!(login.before(now), Before::Send(1));
        assert!(login.failed(&old(), 1));
        assert_eq!(login.before(now), Before::Take);
        login.taken(now);
        // Another request that was sent with the former token: it is repeated with the new one, which is not doubted.
        assert!(login.failed(&old(), 1));
        assert_eq!(login.before(now), Before::Send(2));
    }

    #[test]
    fn other_failures_are_not_the_tokens() {
        let now = Instant::now();
        let mut login = logged_in(now);
        for fault in [Fault::NoLeader, Fault::StreamEnded, refusal()] {
            assert!(!login.failed(&fault, 1), "{fault}");
        }
        assert_eq!(login.before(now), Before::Send(1));
    }

    #[test]
    fn a_refused_password_is_tried_again_slowly() {
        let mut now = Instant::now();
        let mut login = Login::new(true);
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            login.refused(refusal(), now);
            let end = now + Duration::from_secs(pause);
            assert_eq!(login.before(end - Duration::from_millis(1)), Before::Refuse(refusal()), "{pause}");
            assert_eq!(login.before(end), Before::Take, "{pause}");
            now = end;
        }
        login.taken(now);
        login.refused(refusal(), now);
        assert_eq!(login.before(now + FIRST_PAUSE), Before::Take);
    }

    #[test]
    fn an_etcd_without_users_is_sent_nothing_until_it_asks() {
        let now = Instant::now();
        let mut login = Login::new(true);
        login.not_asked();
        assert_eq!(login.before(now), Before::Send(1));
        assert!(login.failed(&Fault::Token("etcdserver: user name is empty".to_owned()), 1));
        assert_eq!(login.before(now), Before::Take);
    }

    #[test]
    fn another_member_is_told_anew_who_we_are() {
        let now = Instant::now();
        let mut login = logged_in(now);
        login.member_left(now);
        assert_eq!(login.before(now), Before::Send(1), "the token is young");
        login.member_left(now + YOUNG);
        assert_eq!(login.before(now + YOUNG), Before::Take);
    }
}
