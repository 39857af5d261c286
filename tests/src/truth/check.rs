//! The comparison of one answer with a watcher's log.

use std::collections::BTreeMap;
use std::time::Duration;

use componenthost::cluster::{Keys, Record, SessionKey};
use plugin_api::identity::Role;
use plugin_api::peers::Registration;
use serde_json::{Value, json};

use super::withheld::Withheld;
use super::{Acts, BEHIND, CATCH_UP_LIMIT, Look};
use crate::watcher::Log;

/// A suspect is let go when its time is over, and a machine that does much else may take so much longer.
const SUSPECT_MARGIN: Duration = Duration::from_secs(2);

/// A session as it has to be shown.
#[derive(Clone, Debug)]
struct Expected {
    record: Record,
    registration: Registration,
    standby: bool,
}

/// Judges answers in their order.
pub(super) struct Checker {
    keys: Keys,
    /// How long suspects may be kept.
    ttl: Duration,
    /// Since when a peer is shown as suspect.
    suspects: BTreeMap<(String, i64), Duration>,
}

impl Checker {
    pub fn new(keys: Keys, ttl: Duration) -> Self {
        Self { keys, ttl, suspects: BTreeMap::new() }
    }

    /// What is untrue in an answer: what, when, and both documents.
    pub fn judge(&mut self, look: &Look, log: &Log, acts: &Acts, withheld: &Withheld) -> Vec<String> {
        let mut lies = Vec::new();
        for shown in look.document["dependencies"].as_array().into_iter().flatten() {
            let role = Role::new(shown["role"].as_str().unwrap_or_default()).expect("a role is shown");
            let revision = shown["table_revision"].as_i64().unwrap_or_default();
            // Nothing is known yet, and nothing else is said.
            if revision == 0 {
                continue;
            }
            let expected = self.at(&role, revision, log);
            let mut untrue = Vec::new();
            if revision >= log.from {
                untrue.extend(self.peers(&role, shown, &expected, look));
            }
            untrue.extend(self.age(&role, shown, revision, look, (log, acts, withheld)));
            untrue.extend(ended(&role, shown, look, acts, withheld));
            if !untrue.is_empty() {
                lies.push(format!(
                    "{} at {:?} (asked {:?} before): {}\nshown: {shown:#}\nby etcd at that revision: {:#}\nreceived: {}",
                    role,
                    look.answered,
                    look.answered - look.asked,
                    untrue.join("; "),
                    document(&expected),
                    self.events(&role, log),
                ));
            }
        }
        lies
    }

    /// The role's sessions at a revision. Of the two keys that a coordinator may have the active one decides.
    fn at(&self, role: &Role, revision: i64, log: &Log) -> BTreeMap<i64, Expected> {
        let mut keys = BTreeMap::new();
        for seen in log.seen.iter().filter(|seen| seen.revision <= revision) {
            if let Some(key) = self.keys.classify(role, seen.key.as_bytes()) {
                keys.insert(key, seen.session.as_ref());
            }
        }
        let mut sessions = BTreeMap::new();
        for (key, session) in keys.into_iter().rev() {
            let Some(session) = session else { continue };
            let standby = key != SessionKey::Active && session.record.exclusive;
            let expected = Expected { record: session.record.clone(), registration: session.registration, standby };
            sessions.insert(session.record.server_id, expected);
        }
        sessions
    }

    /// Each peer as etcd has it, and nobody else.
    fn peers(&mut self, role: &Role, shown: &Value, expected: &BTreeMap<i64, Expected>, look: &Look) -> Vec<String> {
        let mut untrue = Vec::new();
        let mut by_id = BTreeMap::new();
        for peer in shown["peers"].as_array().into_iter().flatten() {
            by_id.insert(peer["server_id"].as_i64().unwrap_or_default(), peer);
        }
        for (id, session) in expected {
            match by_id.get(id) {
                None => untrue.push(format!("{role}-{id} is in etcd and is not shown")),
                Some(peer) => untrue.extend(differences(peer, session).map(|what| format!("{role}-{id}: {what}"))),
            }
        }
        self.suspects
            .retain(|(of, id), _| *of != role.as_str() || by_id.get(id).is_some_and(|peer| peer["suspect"] == true));
        for (id, peer) in by_id.iter().filter(|(id, _)| !expected.contains_key(id)) {
            if peer["suspect"] != true {
                // That it has gone is what is true.
                if peer["session"] != "gone" {
                    untrue.push(format!("{role}-{id} is not in etcd, and is shown as {}", peer["session"]));
                }
                continue;
            }
            let since = *self.suspects.entry((role.to_string(), *id)).or_insert(look.asked);
            let kept = look.asked.saturating_sub(since);
            if kept > self.ttl + SUSPECT_MARGIN {
                untrue.push(format!("{role}-{id} is kept as suspect for {kept:?}"));
            }
        }
        untrue
    }

    /// Nothing is missing that the watcher had received [`BEHIND`] before; where the host cannot hear etcd, its table says
    /// itself that it is older than that.
    fn age(
        &self,
        role: &Role,
        shown: &Value,
        revision: i64,
        look: &Look,
        (log, acts, withheld): (&Log, &Acts, &Withheld),
    ) -> Option<String> {
        let of_role = |key: &str| self.keys.classify(role, key.as_bytes()).is_some();
        let missing = log.seen.iter().filter(|seen| seen.revision > revision && of_role(&seen.key));
        let first = missing.min_by_key(|seen| seen.at)?;
        let since = look.asked.checked_sub(first.at)?;
        let allowed = BEHIND + withheld.between(first.at, look.answered);
        if since <= allowed {
            return None;
        }
        let cut_off = |(since, healed): &(Duration, Option<Duration>)| {
            *since <= look.answered && healed.is_none_or(|healed| look.asked <= healed + CATCH_UP_LIMIT)
        };
        if !acts.cut_off.iter().any(cut_off) {
            let what = format!("revision {} of {} is missing", first.revision, first.key);
            return Some(format!("{what}, received {since:?} before, with {allowed:?} allowed"));
        }
        let age = shown["table_age_ms"].as_u64().map_or(Duration::ZERO, Duration::from_millis);
        let untrue = age + allowed < since;
        untrue.then(|| format!("it says that its table was right {age:?} ago, which misses what came {since:?} ago"))
    }

    fn events(&self, role: &Role, log: &Log) -> String {
        let of_role = log.seen.iter().filter(|seen| self.keys.classify(role, seen.key.as_bytes()).is_some());
        let lines: Vec<_> = of_role
            .map(|seen| {
                let what = seen.session.as_ref().map_or("DELETE".to_owned(), |session| format!("{:?}", session.record));
                format!("\n  {:?} revision {} {} {what}", seen.at, seen.revision, seen.key)
            })
            .collect();
        // The last ones are those that it may be about.
        lines[lines.len().saturating_sub(12)..].concat()
    }
}

/// A registration as it is shown: the lease as etcd's own tool writes it.
fn registered(registration: &Registration) -> Value {
    json!({ "create_revision": registration.create_revision, "lease": format!("{:x}", registration.lease_id) })
}

fn differences(peer: &Value, session: &Expected) -> impl Iterator<Item = String> {
    let Expected { record, registration, standby } = session;
    let wanted = [
        ("address", json!(record.address)),
        ("version", json!(record.version)),
        ("standby", json!(standby)),
        ("suspect", json!(false)),
        ("session", json!(if record.stopping { "stopping" } else { "live" })),
        ("registration", registered(registration)),
    ];
    wanted.into_iter().filter_map(|(field, wanted)| {
        let shown = &peer[field];
        (*shown != wanted).then(|| format!("{field} is {shown}, in etcd {wanted}"))
    })
}

/// No link is ready that leads to a process which has ended.
fn ended<'a>(
    role: &'a Role,
    shown: &'a Value,
    look: &'a Look,
    acts: &'a Acts,
    withheld: &'a Withheld,
) -> impl Iterator<Item = String> + 'a {
    let long_ago = move |at: Duration| look.asked > at + BEHIND + withheld.between(at, look.answered);
    let ended = acts.ended.iter().filter(move |(of, _, at)| of == role && long_ago(*at));
    ended.filter_map(move |(_, id, at)| {
        let peer = shown["peers"].as_array()?.iter().find(|peer| peer["server_id"] == *id)?;
        let what = || format!("{role}-{id} ended {:?} before, and the link to it is shown as ready", look.asked - *at);
        (peer["link"] == "ready").then(what)
    })
}

fn document(expected: &BTreeMap<i64, Expected>) -> Value {
    let session = |(id, session): (&i64, &Expected)| {
        let Expected { record, registration, standby } = session;
        json!({ "server_id": id, "standby": standby, "registration": registered(registration), "record": record })
    };
    expected.iter().map(session).collect()
}
