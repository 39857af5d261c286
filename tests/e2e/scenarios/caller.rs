//! The host that calls: the probe `alpha`, what it is asked to call, what it was told, and the checker beside it.

use std::time::Duration;

use plugin_api::identity::Role;
use probe_plugin::v1::{CallKind, CallRequest, CallResponse, Empty, Event};
use serde_json::{Value, json};
use tests::client::Probe;
use tests::clock::monotonic;
use tests::probe::call;
use tests::truth::Truth;
use tests::watcher::{Seen, Watcher};
use tests::{Cluster, Host, HostConfig, LIMIT, eventually, within};
use tokio::task::JoinHandle;

/// A caller with its checker.
pub struct Caller {
    pub host: Host,
    pub probe: Probe,
    pub truth: Truth,
}

/// A configuration of the caller's probe: it serves on without etcd, and depends on these roles.
pub fn depends_on(roles: &[(&str, &str)]) -> Value {
    let dependencies: Vec<_> = roles.iter().map(|(role, kind)| json!({ "role": role, "kind": kind })).collect();
    json!({ "kind": "coordinator", "lease_policy": "serve", "dependencies": dependencies })
}

/// A unary call to a role, without a deadline and without a wait.
pub fn unary(role: &str) -> CallRequest {
    CallRequest { size: 10, ..call(role, CallKind::Unary) }
}

/// The same to one process.
pub fn unary_to(role: &str, server_id: i64) -> CallRequest {
    CallRequest { server_id: Some(server_id), ..unary(role) }
}

/// The same with a deadline.
pub fn unary_within(role: &str, deadline: Duration) -> CallRequest {
    let timeout_ms = u64::try_from(deadline.as_millis()).expect("a deadline is short");
    CallRequest { timeout_ms: Some(timeout_ms), ..unary(role) }
}

impl Caller {
    /// Starts it with what a test configures, and waits until it is Healthy.
    pub async fn start(cluster: &Cluster, probe: Value) -> Self {
        Self::start_with(cluster, cluster.config().probe("alpha", probe)).await
    }

    /// The same with a whole configuration.
    pub async fn start_with(cluster: &Cluster, config: HostConfig) -> Self {
        let host = cluster.host(config).await;
        let probe = host.healthy().await.probe("alpha").await;
        let truth = Truth::beside(&host, cluster).await;
        Self { host, probe, truth }
    }

    /// The bare watcher.
    pub fn watcher(&self) -> &Watcher {
        self.truth.watcher()
    }

    /// Calls once.
    pub async fn call(&self, request: CallRequest) -> CallResponse {
        let answer = within(LIMIT, self.probe.clone().call(request)).await;
        answer.expect("the caller's probe answers").into_inner()
    }

    /// Makes this call until it goes through, and says when that was, by the clock of all processes.
    #[track_caller]
    pub fn goes_through(&self, request: CallRequest) -> impl Future<Output = Duration> {
        eventually(LIMIT, move || {
            let request = request.clone();
            async move {
                let seen = self.call(request).await;
                if seen.code == 0 { Ok(monotonic()) } else { Err(format!("{seen:?}")) }
            }
        })
    }

    /// A call that runs; when it ended and how.
    pub fn running(&self, request: CallRequest) -> JoinHandle<(Duration, CallResponse)> {
        let mut probe = self.probe.clone();
        tokio::spawn(async move {
            let answer = probe.call(request).await.expect("the caller's probe answers").into_inner();
            (monotonic(), answer)
        })
    }

    /// Waits until its component was told of this at `since` or later, of that process; and when.
    #[track_caller]
    pub fn told(
        &self,
        since: Duration,
        change: &'static str,
        server_id: i64,
    ) -> impl Future<Output = (Duration, Event)> {
        let is_it = move |event: &Event| {
            event.change == change && event.peers.iter().any(|peer| peer.server_id == server_id) && at(event) >= since
        };
        eventually(LIMIT, move || async move {
            let told = self.probe.clone().events(Empty {}).await.map_err(|status| status.to_string())?.into_inner();
            let found = told.on_peer.iter().find(|event| is_it(event)).cloned();
            found.map(|event| (at(&event), event)).ok_or_else(|| format!("{:#?}", told.on_peer))
        })
    }

    /// Waits until the bare watcher sees this process' session, at `since` or later.
    #[track_caller]
    pub fn appears(&self, since: Duration, server_id: i64) -> impl Future<Output = Seen> {
        self.watcher().sees(since, move |seen| seen.server_id() == Some(server_id))
    }

    /// What it shows of a role that it depends on.
    pub async fn dependency(&self, role: &str) -> Value {
        let view = self.host.connections().await;
        let all = view["dependencies"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|dependency| dependency["role"] == role).expect("it depends on the role")
    }

    /// Waits until it shows exactly these processes of a role, each with a link that is ready.
    #[track_caller]
    pub fn linked_to(&self, role: &'static str, mut ids: Vec<i64>) -> impl Future<Output = Value> {
        ids.sort_unstable();
        eventually(LIMIT, move || {
            let ids = ids.clone();
            async move {
                let view = self.dependency(role).await;
                let peers = view["peers"].as_array().cloned().unwrap_or_default();
                let shown: Vec<_> = peers.iter().filter_map(|peer| peer["server_id"].as_i64()).collect();
                let ready = peers.iter().all(|peer| peer["link"] == "ready");
                if shown == ids && ready { Ok(view) } else { Err(format!("not {ids:?}: {view:#}")) }
            }
        })
    }
}

fn at(event: &Event) -> Duration {
    Duration::from_micros(u64::try_from(event.at_monotonic_us).expect("the clock is not before its beginning"))
}

/// The key of a node.
pub fn node_key(cluster: &Cluster, role: &str, server_id: i64) -> String {
    cluster.keys().member_session(&Role::new(role).expect("a role"), plugin_api::identity::ServerId(server_id))
}
