//! What people can see of the connections: each role that is depended on, its peers, and what happened to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use plugin_api::descriptor::Kind;
use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::{PeerLink, PeerSession};
use plugin_api::refusal::Reason;
use serde::Serialize;

use super::dependency::{Followed, PeerView};
use super::history::{PastEvent, rfc3339};
use super::link::Way;
use super::peer::LinkState;

/// One role that components of this host depend on.
#[derive(Clone, Debug, Serialize)]
pub struct DependencyView {
    /// The role.
    pub role: Role,
    /// Who depends on it.
    pub callers: Vec<CallerView>,
    /// The etcd revision that the table of peers reflects; 0 before the first list.
    pub table_revision: i64,
    /// How old the table is; absent before the first list.
    pub table_age_ms: Option<u128>,
    /// It is older than it should be: the last that was known.
    pub table_stale: bool,
    /// Its peers, in order of their ids.
    pub peers: Vec<PeerOverview>,
    /// The last events, oldest first: of each peer 256, of those that have gone as well; of all together some 16,000.
    pub events: Vec<Arc<PastEvent>>,
}

/// A component of this host that depends on the role.
#[derive(Clone, Debug, Serialize)]
pub struct CallerView {
    /// The component's role.
    pub role: Role,
    /// One active coordinator, or each node.
    pub kind: Kind,
    /// `/readyz` asks for it.
    pub required: bool,
}

/// One peer.
#[derive(Clone, Debug, Serialize)]
pub struct PeerOverview {
    /// Its identity in the cluster, with the role.
    pub server_id: ServerId,
    /// Where it is.
    pub address: String,
    /// The version of its component.
    pub version: String,
    /// It waits for the active one to go.
    pub standby: bool,
    /// etcd's last list missed it, and is doubted: it is asked again and again whether it is there.
    pub suspect: bool,
    /// Which registration it is.
    pub registration: RegistrationView,
    /// How its session stands.
    pub session: PeerSession,
    /// How the link to it stands.
    pub link: PeerLink,
    /// How calls go to it.
    pub way: Way,
    /// It is ready, but could not say who it is: a foreign server.
    pub unverified: bool,
    /// Since when session and link have been so, in RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// For how long that is.
    pub since_ms: u128,
    /// Dials so far.
    pub attempts: u64,
    /// Windows of tries that have failed in this round.
    pub tries: u32,
    /// The last dial's error, while there is no link.
    pub last_error: Option<String>,
    /// When the next dial begins, from now; absent where it runs, and where none is to come.
    pub next_try_ms: Option<u128>,
    /// What the peer said of itself, where that keeps the link from being ready.
    pub peer_says: Option<String>,
    /// HTTP/2 connections that take calls to it.
    pub connections: usize,
    /// Calls that run on its links.
    pub calls_running: usize,
    /// Bytes of HTTP/2 that came in over its links, without those of TLS.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// How long the last PING over its links took to its ACK; absent before the first, which a link's keepalive sends.
    pub last_round_trip_us: Option<u128>,
    /// How long ago that ACK came.
    pub last_round_trip_age_ms: Option<u128>,
}

/// One registration.
#[derive(Clone, Debug, Serialize)]
pub struct RegistrationView {
    /// The revision at which its key was created.
    pub create_revision: i64,
    /// Its lease in hexadecimal digits, as etcd's own tool writes it: the numbers of JSON's readers end at 2^53.
    pub lease: String,
}

/// A required dependency that cannot be called now.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    /// The role that is missed.
    pub role: Role,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

impl DependencyView {
    pub(super) fn of(followed: &Followed, callers: Vec<CallerView>, past: bool) -> Self {
        // Locked while both are published: no event tells what the peers do not show.
        let events = followed.events();
        let view = followed.view();
        let history = if past { events.history() } else { Vec::new() };
        drop(events);
        Self {
            role: followed.role.clone(),
            callers,
            table_revision: view.table.revision,
            table_age_ms: view.age().map(|age| age.as_millis()),
            table_stale: view.is_stale(),
            peers: view.peers.values().map(|peer| PeerOverview::of(peer)).collect(),
            events: history,
        }
    }
}

impl PeerOverview {
    fn of(peer: &PeerView) -> Self {
        let PeerView { entry, state, shared, .. } = peer;
        let now = Instant::now();
        let peer_says = state.link.says().map(|says| says.to_string());
        let lasted = now.saturating_duration_since(state.since);
        let round_trip = shared.traffic.round_trip();
        Self {
            server_id: entry.server_id(),
            address: entry.record.address.clone(),
            version: entry.record.version.clone(),
            standby: entry.standby,
            suspect: entry.suspect,
            registration: RegistrationView {
                create_revision: entry.registration.create_revision,
                lease: format!("{:x}", entry.registration.lease_id),
            },
            session: state.session.kind(),
            link: state.link.kind(),
            way: shared.way,
            unverified: matches!(state.link, LinkState::Ready { verified: false, .. }),
            since: SystemTime::now() - lasted,
            since_ms: lasted.as_millis(),
            attempts: shared.dials.load(Ordering::Relaxed),
            tries: state.link.tries(),
            last_error: state.link.last_error().map(str::to_owned),
            next_try_ms: next_dial(&state.link).map(|due| due.saturating_duration_since(now).as_millis()),
            peer_says,
            connections: peer.link.as_ref().map_or(0, |link| link.connections()),
            calls_running: shared.running.load(Ordering::Relaxed),
            bytes_in: shared.traffic.bytes_in(),
            bytes_out: shared.traffic.bytes_out(),
            last_round_trip_us: round_trip.map(|last| last.took.as_micros()),
            last_round_trip_age_ms: round_trip.map(|last| now.saturating_duration_since(last.at).as_millis()),
        }
    }
}

/// The clock of a suspect's probe, or of a drain, is none of a dial.
fn next_dial(link: &LinkState) -> Option<Instant> {
    match link {
        LinkState::Connecting { dial_at, .. } => *dial_at,
        LinkState::Retrying { next_try, .. } => *next_try,
        LinkState::GivenUp { next_probe, .. } => *next_probe,
        LinkState::Ready { .. } | LinkState::Refusing { .. } | LinkState::Draining { .. } | LinkState::Closed => None,
    }
}
