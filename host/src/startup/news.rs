//! What happens in this host, told to whoever reads the events: of peers, components, sessions and tables.
//!
//! It only follows what its parts publish. Of what changes faster than it is looked at, the last is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plugin_api::identity::Role;
use plugin_api::peers::Registration;
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::Parts;
use super::view::step_of;
use crate::admin::Feed;
use crate::connections::PastEvent;
use crate::discovery::{Discovery, FollowView};
use crate::lifecycle::{State, Status};
use crate::session::{SessionGuard, SessionStatus};
use crate::supervise::Member;
use crate::supervise::swap::SwapEvent;

/// How often tables are looked at: that one is stale is said by a clock, not by a change.
const LOOK: Duration = Duration::from_secs(1);

/// Tells of everything from now on, until it is dropped.
pub(super) fn begin(feed: &Feed, members: &[Arc<Member>], parts: &Parts) -> AbortOnDropHandle<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(peers(feed.clone(), parts.connections.news()));
    tasks.spawn(tables(feed.clone(), parts.discovery.clone()));
    for member in members {
        tasks.spawn(component(feed.clone(), member.role.clone(), member.lifecycle.watch()));
        tasks.spawn(sessions(feed.clone(), Arc::clone(member)));
        tasks.spawn(swaps(feed.clone(), member.role.clone(), member.swaps.told.listen()));
    }
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "events are not told any more");
            }
        }
    }))
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

async fn peers(feed: Feed, mut news: Receiver<Arc<PastEvent>>) {
    loop {
        match news.recv().await {
            Ok(event) => feed.tell("peer", &*event),
            Err(RecvError::Lagged(count)) => feed.tell("missed", &json!({ "at": now(), "of": "peer", "count": count })),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn swaps(feed: Feed, role: Role, mut events: Receiver<SwapEvent>) {
    loop {
        match events.recv().await {
            Ok(event) => {
                let mut event = json!(event);
                event["at"] = now().into();
                event["role"] = role.as_str().into();
                feed.tell("swap", &event);
            }
            Err(RecvError::Lagged(count)) => feed.tell("missed", &json!({ "at": now(), "of": "swap", "count": count })),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn component(feed: Feed, role: Role, mut status: watch::Receiver<Status>) {
    let mut told = None;
    loop {
        let shown = describe(&role, &status.borrow_and_update());
        if told.as_ref() != Some(&shown) {
            let mut event = shown.clone();
            event["at"] = now().into();
            feed.tell("component", &event);
            told = Some(shown);
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn describe(role: &Role, status: &Status) -> Value {
    let (cause, quarantined) = match &status.state {
        State::Abnormal { cause, next_try } => (Some(cause.clone()), next_try.is_none()),
        State::StandBy { holder } => (Some(format!("standing by for {holder}")), false),
        _ => (None, false),
    };
    json!({
        "role": role,
        "state_code": status.state.code(),
        "step": step_of(status),
        "fenced": status.fenced.is_some(),
        "quarantined": quarantined,
        "cause": cause,
        "restarts": status.restarts,
        "generation": status.generation,
    })
}

/// The sessions of one component, one after another.
async fn sessions(feed: Feed, member: Arc<Member>) {
    let mut shown = member.watch_shown();
    let mut told = Told::default();
    loop {
        let session = shown.borrow_and_update().session.upgrade();
        let followed = session.map(|session| (session.status(), session.guard()));
        let follow = async {
            if let Some((status, guard)) = followed {
                told.follow(&feed, &member.role, status, guard).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            changed = shown.changed() => if changed.is_err() { return },
            () = follow => {}
        }
    }
}

/// What was last told of a component's session.
#[derive(Default)]
struct Told {
    state: Option<(&'static str, bool, Option<String>)>,
    registration: Option<Registration>,
}

impl Told {
    /// Until its keeper has gone.
    async fn follow(
        &mut self,
        feed: &Feed,
        role: &Role,
        mut status: watch::Receiver<SessionStatus>,
        mut guard: SessionGuard,
    ) {
        loop {
            let now = status.borrow_and_update().clone();
            self.tell(feed, role, &now, guard.is_certain());
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                _ = guard.certainty_changed() => {}
            }
        }
    }

    fn tell(&mut self, feed: &Feed, role: &Role, status: &SessionStatus, certain: bool) {
        let (registration, cause) = match status {
            SessionStatus::Held(held) => (Some(held.registration), None),
            SessionStatus::StandBy(standby) => (Some(standby.registration), Some(standby.holder.to_string())),
            SessionStatus::HeldByOther { holder, .. } => (None, Some(holder.to_string())),
            SessionStatus::Lost { cause, .. } => (None, Some(cause.clone())),
            SessionStatus::Registering { last_error, .. } => (None, last_error.clone()),
            SessionStatus::Deleted { .. } | SessionStatus::Revoked => (None, None),
        };
        // What a holder's lease has left moves all the time, and is nothing that happens.
        let shown_cause = cause.clone().filter(|_| matches!(status, SessionStatus::Lost { .. }));
        let state = (status.as_str(), certain, shown_cause);
        if self.state.as_ref() == Some(&state) && registration.is_none_or(|now| self.registration == Some(now)) {
            return;
        }
        let event = match (status, self.registration) {
            (SessionStatus::Held(_), _) if !certain => "in_doubt",
            (SessionStatus::Held(held), Some(before)) if before == held.registration => "certain",
            (SessionStatus::Held(_), Some(_)) => "reregistered",
            (SessionStatus::Held(_), None) => "registered",
            _ => status.as_str(),
        };
        self.state = Some(state);
        self.registration = registration.or(self.registration);
        let registration = registration
            .map(|one| json!({ "create_revision": one.create_revision, "lease": format!("{:x}", one.lease_id) }));
        let event = json!({ "at": now(), "role": role, "event": event, "registration": registration, "cause": cause });
        feed.tell("session", &event);
    }
}

async fn tables(feed: Feed, discovery: Discovery) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: BTreeMap<Role, FollowView> = BTreeMap::new();
    loop {
        looks.tick().await;
        for now in discovery.view() {
            let told = before.get(&now.role).map(|before| differences(before, &now)).unwrap_or_default();
            for (event, detail) in told {
                let role = &now.role;
                let event = json!({
                    "at": self::now(), "role": role, "event": event, "detail": detail, "revision": now.revision,
                });
                feed.tell("discovery", &event);
            }
            before.insert(now.role.clone(), now);
        }
    }
}

/// What has happened to a table between two looks.
fn differences(before: &FollowView, now: &FollowView) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    if now.resets > before.resets {
        told.push(("reset", "etcd is not the one that it was".to_owned()));
    }
    if now.restarts > before.restarts {
        let why = now.last_restarts.last().map(|restart| restart.why.clone()).unwrap_or_default();
        told.push(("watch_restarted", why));
    }
    if now.skipped_values > before.skipped_values {
        let count = now.skipped_values - before.skipped_values;
        told.push(("values_skipped", format!("{count} that are no sessions")));
    }
    if now.reconciliations > before.reconciliations {
        let wrong = now.corrections - before.corrections;
        told.push(("reconciled", format!("{wrong} keys were wrong")));
    }
    // Before its first list a table is not known rather than stale.
    if before.age_ms.is_some() && now.stale != before.stale {
        told.push((if now.stale { "stale" } else { "fresh" }, String::new()));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> FollowView {
        FollowView {
            role: Role::new("querynode").expect("a role"),
            revision: 7,
            age_ms: Some(1),
            stale: false,
            sessions: 0,
            suspects: Vec::new(),
            connected: true,
            restarts: 0,
            restarts_by_reason: BTreeMap::new(),
            last_restarts: Vec::new(),
            valid_values: 0,
            invalid_values: 0,
            skipped_values: 0,
            skipped_now: Vec::new(),
            reconciliations: 0,
            corrections: 0,
            resets: 0,
        }
    }

    #[test]
    fn what_happens_to_a_table_is_told_once() {
        let told = |before: &FollowView, now: &FollowView| -> Vec<&str> {
            differences(before, now).into_iter().map(|(event, _)| event).collect()
        };
        let stale = FollowView { stale: true, restarts: 1, ..view() };
        assert_eq!(told(&view(), &stale), ["watch_restarted", "stale"]);
        assert_eq!(told(&stale, &stale), [""; 0]);
        let fresh = FollowView { stale: false, reconciliations: 1, corrections: 2, resets: 1, ..stale.clone() };
        assert_eq!(told(&stale, &fresh), ["reset", "reconciled", "fresh"]);
        let unknown = FollowView { age_ms: None, stale: true, ..view() };
        assert_eq!(told(&unknown, &view()), [""; 0]);
    }
}
