//! All that is measured in this host, gathered at each scrape from what its parts show and have counted.

use plugin_api::state::StateCode;

use super::Parts;
use crate::connections::DependencyView;
use crate::discovery::FollowView;
use crate::metrics::{ByRole, Family, Labels, Series};
use crate::plugin::retired_bytes;
use crate::supervise::Member;
use crate::swap::Outcome;

/// The states that a session's metric names; see `session`.
const SESSION_STATES: [&str; 7] = ["registering", "held_by_other", "stand_by", "held", "lost", "deleted", "revoked"];

/// What of the host itself is known beside its parts.
pub(super) fn own(members: &[std::sync::Arc<Member>], readers: usize) -> Vec<Family> {
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("build", crate::BUILD_ID.to_owned())];
    let (mut states, mut fenced, mut restarts, mut sessions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut generations, mut swaps) = (Vec::new(), Vec::new());
    for member in members {
        let (role, status) = (member.role.to_string(), member.lifecycle.status());
        let is =
            |state: &str, now: &str| (vec![("role", role.clone()), ("state", state.to_owned())], flag(state == now));
        let code = status.state.code().to_string();
        states.extend(StateCode::ALL.iter().map(|state| is(&state.to_string(), &code)));
        fenced.push((of(&role), flag(status.fenced.is_some())));
        restarts.push((of(&role), u64::from(status.restarts)));
        generations.push((of(&role), status.generation as f64));
        let ended = |outcome: Outcome| {
            let labels = vec![("role", role.clone()), ("outcome", outcome.as_str().to_owned())];
            (labels, member.swaps.told.ended(outcome))
        };
        swaps.extend(Outcome::ALL.map(ended));
        if let Some(session) = member.shown().session.upgrade() {
            let now = session.view().state;
            sessions.extend(SESSION_STATES.iter().map(|state| is(state, now)));
        }
    }
    vec![
        gauge("componenthost_build_info", "Which program this is", vec![(build, 1.0)]),
        gauge("componenthost_events_readers", "Who reads the events of this host", vec![(Vec::new(), readers as f64)]),
        gauge("componenthost_component_state", "1 for the state code that the component has", states),
        gauge(
            "componenthost_component_fenced",
            "1 while its calls are refused because its lease is not certain",
            fenced,
        ),
        counter(
            "componenthost_component_restarts",
            "How often the component was started again after a failure",
            restarts,
        ),
        gauge("componenthost_component_generation", "Which loaded copy of the component's plugins serves", generations),
        gauge(
            "componenthost_retired_bytes",
            "Mapped of libraries whose generations have ended",
            vec![(Vec::new(), retired_bytes() as f64)],
        ),
        counter("componenthost_swaps", "How swaps of the component have ended", swaps),
        gauge("componenthost_session_state", "1 for the state of the component's own session in etcd", sessions),
    ]
}

/// What its parts know and have counted.
pub(super) fn parts(parts: &Parts) -> Vec<Family> {
    let clients = parts.connections.measured();
    let mut families = calls(
        "rpc_client_call_duration",
        CLIENT_HELP,
        &clients,
        [
            ("componenthost_client_calls_running", "Calls of components to peers that are not over"),
            ("componenthost_client_refusals", "Calls of components to peers that were refused or cut"),
        ],
    );
    let waiting = clients.all().into_iter().map(|(role, of)| (self::of(&role), of.calls.waiting() as f64)).collect();
    families.push(gauge(
        "componenthost_client_calls_waiting",
        "Calls of components that wait for a peer to call",
        waiting,
    ));
    families.extend(calls(
        "rpc_server_call_duration",
        SERVER_HELP,
        parts.served.measured(),
        [
            ("componenthost_server_calls_running", "Calls that came in and are not over"),
            ("componenthost_server_refusals", "Calls that came in and were refused or cut"),
        ],
    ));
    families.extend(links(&clients));
    families.push(peers(&parts.connections.view_without_past()));
    families.extend(etcd(&parts.discovery.view()));
    families
}

const CLIENT_HELP: &str = "How long calls of components to peers took, by their status";
const SERVER_HELP: &str = "How long calls took that came in, by their status";

fn calls(
    durations: &'static str,
    help: &'static str,
    roles: &ByRole,
    names: [(&'static str, &'static str); 2],
) -> Vec<Family> {
    let (mut histograms, mut running, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for (role, of_role) in roles.all() {
        for (method, code, counted) in of_role.calls.durations() {
            let labels = vec![
                ("role", role.clone()),
                ("rpc_method", method),
                ("rpc_response_status_code", code_name(code).to_owned()),
            ];
            histograms.push((labels, counted));
        }
        running.push((of(&role), of_role.calls.running() as f64));
        for (reason, count) in of_role.calls.refusals() {
            refusals.push((vec![("role", role.clone()), ("reason", reason.to_string())], count));
        }
    }
    let [(running_name, running_help), (refusals_name, refusals_help)] = names;
    vec![
        Family { name: durations, help, unit: "seconds", series: Series::Histogram(histograms) },
        gauge(running_name, running_help, running),
        counter(refusals_name, refusals_help, refusals),
    ]
}

fn links(roles: &ByRole) -> Vec<Family> {
    let (mut open, mut succeeded, mut failed, mut ended) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (role, of_role) in roles.all() {
        let links = &of_role.links;
        open.push((of(&role), links.open() as f64));
        succeeded.push((of(&role), links.attempts_succeeded()));
        failed.push((of(&role), links.attempts_failed()));
        let of_error = |(why, count): (&str, u64)| {
            (vec![("role", role.clone()), ("grpc_disconnect_error", why.to_owned())], count)
        };
        ended.extend(links.disconnections().filter(|(_, count)| *count > 0).map(of_error));
    }
    vec![
        gauge("grpc_subchannel_open_connections", "Connections to peers that are proved and take calls", open),
        counter("grpc_subchannel_connection_attempts_succeeded", "Dials that led to a proved connection", succeeded),
        counter("grpc_subchannel_connection_attempts_failed", "Dials that did not", failed),
        counter("grpc_subchannel_disconnections", "Connections to peers that take no more calls", ended),
    ]
}

fn peers(dependencies: &[DependencyView]) -> Family {
    let mut counts = std::collections::BTreeMap::new();
    for dependency in dependencies {
        for peer in &dependency.peers {
            let session = if peer.suspect { "suspect" } else { peer.session.as_str() };
            *counts.entry((dependency.role.to_string(), session, peer.link.as_str())).or_insert(0.0) += 1.0;
        }
    }
    let labels = |(role, session, link): (String, &str, &str)| {
        vec![("role", role), ("session", session.to_owned()), ("link", link.to_owned())]
    };
    gauge(
        "componenthost_peers",
        "Registered peers",
        counts.into_iter().map(|(key, count)| (labels(key), count)).collect(),
    )
}

fn etcd(tables: &[FollowView]) -> Vec<Family> {
    let gauges = |value: fn(&FollowView) -> Option<f64>| {
        tables.iter().filter_map(|table| Some((of(table.role.as_str()), value(table)?))).collect::<Vec<_>>()
    };
    let counts = |value: fn(&FollowView) -> u64| {
        tables.iter().map(|table| (of(table.role.as_str()), value(table))).collect::<Vec<_>>()
    };
    let by_reason = |table: &FollowView| {
        let role = table.role.to_string();
        let series =
            |(reason, count): (&&str, &u64)| (vec![("role", role.clone()), ("reason", (*reason).to_owned())], *count);
        table.restarts_by_reason.iter().map(series).collect::<Vec<_>>()
    };
    let restarts = tables.iter().flat_map(by_reason).collect();
    let age = gauges(|table| Some(table.age_ms? as f64 / 1000.0));
    vec![
        gauge(
            "componenthost_etcd_connected",
            "1 while etcd answers who follows the role's sessions: it has, and no watch has broken since",
            gauges(|table| Some(flag(table.connected))),
        ),
        counter("componenthost_etcd_watch_restarts", "Watches of a role's sessions that were made again", restarts),
        counter(
            "componenthost_etcd_events_valid",
            "Puts and deletions of a role's keys that were taken, and all keys of its lists, changed or not",
            counts(|table| table.valid_values),
        ),
        counter(
            "componenthost_etcd_events_invalid",
            "The same whose values are no sessions",
            counts(|table| table.invalid_values),
        ),
        counter(
            "componenthost_etcd_corrections",
            "Keys that a list of etcd's showed to be wrong in a table",
            counts(|table| table.corrections),
        ),
        counter(
            "componenthost_etcd_resets",
            "How often etcd was not the one that it was",
            counts(|table| table.resets),
        ),
        gauge(
            "componenthost_etcd_table_stale",
            "1 while etcd has not confirmed the table of the role for longer than it should",
            gauges(|table| Some(flag(table.stale))),
        ),
        gauge(
            "componenthost_etcd_table_sessions",
            "Sessions in the table of the role",
            gauges(|table| Some(table.sessions as f64)),
        ),
        gauge(
            "componenthost_etcd_table_revision",
            "The revision of etcd that the table reflects",
            gauges(|table| Some(table.revision as f64)),
        ),
        Family {
            name: "componenthost_etcd_table_age",
            help: "How long ago etcd proved that the table is fresh",
            unit: "seconds",
            series: Series::Gauge(age),
        },
    ]
}

fn of(role: &str) -> Labels {
    vec![("role", role.to_owned())]
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn gauge(name: &'static str, help: &'static str, series: Vec<(Labels, f64)>) -> Family {
    Family { name, help, unit: "", series: Series::Gauge(series) }
}

fn counter(name: &'static str, help: &'static str, series: Vec<(Labels, u64)>) -> Family {
    Family { name, help, unit: "", series: Series::Counter(series) }
}

/// The name of a gRPC code as OpenTelemetry has it.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
