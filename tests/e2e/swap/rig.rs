//! A probe that is swapped, its peer and its caller, each in a host of its own; and clients of it that call all the while.

mod calls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use componenthost::swap::Phase;
use probe_plugin::knobs::{Fault, FaultConfig, Knobs, Lies, Method};
use probe_plugin::v1::{CallKind, EchoRequest, EchoResponse, Empty};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binary::{plugin_dir, plugin_file, second};
use tests::client::Probe;
use tests::load::Load;
use tests::numbers::Numbers;
use tests::probe::{call, calling, coordinator, reaches};
use tests::swap::{Swapped, Swapping};
use tests::{Cluster, Host, HostConfig};
use tonic::Status;

use calls::{bidi_stream, calls_on, client_stream, put, server_stream, unary_call};

/// No probation: the swap is over when it has come to its switch and the former generation has ended.
pub const AT_ONCE: [&str; 2] = ["--probation", "0s"];

/// `alpha` is swapped; it calls `beta`, and `gamma` calls it.
pub struct Rig {
    pub cluster: Cluster,
    pub alpha: Host,
    pub beta: Host,
    pub gamma: Host,
    pub numbers: Numbers,
    /// `alpha` may have plugins from it.
    pub folder: TempDir,
}

impl Rig {
    /// All three are called. No session is lost because the machine does much else.
    pub async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// The same, with `alpha`'s host configured otherwise.
    pub async fn with(config: impl FnOnce(HostConfig) -> HostConfig) -> Self {
        Self::in_cluster(Cluster::start().await, "15s", config).await
    }

    /// The same in this cluster, with this time to live of each session.
    pub async fn in_cluster(cluster: Cluster, ttl: &str, config: impl FnOnce(HostConfig) -> HostConfig) -> Self {
        let folder = TempDir::with_prefix("componenthost-test-swap-").expect("a temporary directory can be made");
        let host = |role: &str, own: Value| cluster.host(cluster.config().set("session.ttl", ttl).probe(role, own));
        let beta = host("beta", coordinator()).await;
        let own = alpha(&folder);
        let dirs = json!([plugin_dir(), folder.path()]);
        let alpha = limits(cluster.config()).set("session.ttl", ttl).set("plugins.dirs", dirs).probe("alpha", own);
        let alpha = cluster.host(config(alpha)).await;
        let gamma = json!({ "kind": "node", "dependencies": calling(&["alpha"])["dependencies"] });
        let gamma = host("gamma", gamma).await;
        let rig = Self { cluster, alpha, beta, gamma, numbers: Numbers::default(), folder };
        rig.is_called().await;
        rig
    }

    /// Waits until `gamma` reaches `alpha`, and `alpha` reaches `beta`.
    pub async fn is_called(&self) {
        self.alpha.healthy().await;
        reaches(&self.probe().await, &call("beta", CallKind::Unary)).await;
        reaches(&self.gamma.healthy().await.probe("gamma").await, &call("alpha", CallKind::Unary)).await;
    }

    /// One host more with `alpha`, which stands by.
    pub async fn standby(&self) -> Host {
        self.standby_with(|config| config).await
    }

    /// The same, configured otherwise.
    pub async fn standby_with(&self, config: impl FnOnce(HostConfig) -> HostConfig) -> Host {
        let own = limits(self.cluster.config()).probe("alpha", alpha(&self.folder));
        let standby = self.cluster.host(config(own)).await;
        standby.in_state("alpha", "StandBy").await;
        standby
    }

    /// A client of `alpha`.
    pub async fn probe(&self) -> Probe {
        self.alpha.probe("alpha").await
    }

    /// Swaps `alpha` for the second edition, with these arguments more.
    pub async fn swap(&self, arguments: &[&str]) -> Swapped {
        self.alpha.swap("alpha", &second_edition(), arguments).await
    }

    /// Begins that.
    pub async fn begin_swap(&self, arguments: &[&str]) -> Swapping {
        self.alpha.begin_swap("alpha", &second_edition(), arguments).await
    }

    /// Begins that, with a second edition that does not come out of this phase before [`Rig::heal`].
    pub async fn begin_swap_held_in(&self, phase: Phase, arguments: &[&str]) -> Swapping {
        self.second_waits_in(phase);
        let swapping = self.begin_swap(arguments).await;
        self.alpha.swap_in("alpha", phase).await;
        swapping
    }

    /// From now on the second edition does not come out of this phase.
    pub fn second_waits_in(&self, phase: Phase) {
        let method = match phase {
            Phase::Prepare => Method::New,
            Phase::HandOver => Method::Restore,
            Phase::Warm => Method::Start,
            Phase::Switch => Method::Activate,
            other => panic!("nothing of the new generation runs in {other:?}"),
        };
        self.second_goes_wrong(method, Fault::Wait);
    }

    /// From now on the second edition goes wrong in this method.
    pub fn second_goes_wrong(&self, method: Method, how: Fault) {
        self.turn("^2", [(method, how)], Lies::default());
    }

    /// From now on the first edition does.
    pub fn first_goes_wrong(&self, method: Method, how: Fault) {
        self.turn("<2", [(method, how)], Lies::default());
    }

    /// From now on editions of these versions have these faults and tell these lies.
    pub fn turn(&self, only: &str, faults: impl IntoIterator<Item = (Method, Fault)>, lies: Lies) {
        let faults: BTreeMap<_, _> = faults.into_iter().map(|(method, how)| (method, FaultConfig::new(how))).collect();
        let knobs = Knobs { only: Some(only.parse().expect("a requirement")), faults, lies };
        let text = serde_json::to_vec(&knobs).expect("knobs are JSON");
        // In one step: who reads it must not read half of it.
        let next = self.folder.path().join("next");
        std::fs::write(&next, text).expect("the folder is writable");
        std::fs::rename(next, knobs_file(&self.folder)).expect("it can be renamed");
    }

    /// All goes well from now on.
    pub fn heal(&self) {
        std::fs::remove_file(knobs_file(&self.folder)).expect("there are knobs");
    }

    /// Who answers: the generation and the version.
    pub async fn answers(&self) -> (u64, String) {
        let answer = answer_of(&self.alpha, "alpha").await;
        (answer.generation, answer.version)
    }

    /// The next number, which has to be one that was not given out before.
    pub async fn counts(&self) -> u64 {
        let probe = self.probe().await;
        self.counts_over(&probe).await.unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// The same over this connection.
    pub async fn counts_over(&self, probe: &Probe) -> Result<u64, String> {
        let floor = self.numbers.floor();
        let answer = probe.clone().count(Empty {}).await.map_err(text)?.into_inner();
        self.numbers.take(floor, answer.number).map(|()| answer.number)
    }

    /// Methods of the lives of all generations of `alpha` so far, but for `OnPeer`, from the log: `2 Activate Restored`.
    pub fn lives(&self) -> Vec<String> {
        lives(&self.alpha)
    }

    /// Calls of all kinds to `alpha`, from a client and from another host, and from `alpha` to its peer.
    pub async fn load(&self) -> Load<'_> {
        let (alpha, gamma) = (self.probe().await, self.gamma.probe("gamma").await);
        let (unary, bidi) = (gamma.clone(), gamma.clone());
        self.clients_load(&alpha)
            .with("calls of its own", async move || calls_on(&alpha, call("beta", CallKind::Unary)).await)
            .with("calls of another host", async move || calls_on(&unary, call("alpha", CallKind::Unary)).await)
            .with("streams of another host", async move || calls_on(&bidi, call("alpha", CallKind::BidiStream)).await)
            .with("gated calls of another host", async move || self.counts_from(&gamma).await)
    }

    /// Calls of all kinds from a client alone, for tests in which other hosts go.
    pub fn clients_load<'a>(&'a self, alpha: &Probe) -> Load<'a> {
        let written = AtomicU64::new(0);
        let own = || alpha.clone();
        let (unary, server, client, bidi, meta, count) = (own(), own(), own(), own(), own(), own());
        Load::default()
            .with("unary calls", async move || unary_call(&unary).await)
            .with("server streams", async move || server_stream(&server).await)
            .with("client streams", async move || client_stream(&client).await)
            .with("bidirectional streams", async move || bidi_stream(&bidi).await)
            .with("writes of metadata", async move || put(&meta, written.fetch_add(1, Ordering::Relaxed)).await)
            .with("gated calls", async move || self.counts_over(&count).await.map(drop))
    }

    async fn counts_from(&self, gamma: &Probe) -> Result<(), String> {
        let floor = self.numbers.floor();
        let seen = gamma.clone().call(call("alpha", CallKind::Count)).await.map_err(text)?.into_inner();
        if seen.code == 0 { self.numbers.take(floor, seen.number) } else { Err(format!("{seen:?}")) }
    }
}

/// What the probe of this role answers, and which of its generations.
pub async fn answer_of(host: &Host, role: &str) -> EchoResponse {
    host.probe(role).await.echo(EchoRequest::default()).await.expect("an answer").into_inner()
}

/// The first edition's file.
pub fn first_edition() -> PathBuf {
    plugin_file("probe_plugin")
}

/// The second edition's.
pub fn second_edition() -> PathBuf {
    plugin_file(&second("probe_plugin"))
}

/// More memory than all swaps of a long form leave behind.
pub const MANY_SWAPS: (&str, &str) = ("plugins.retired_memory_limit", "64GiB");

/// Short limits, for what does not end.
pub fn limits(config: HostConfig) -> HostConfig {
    let config = config.set(MANY_SWAPS.0, MANY_SWAPS.1);
    let timeouts = [("start", "2s"), ("activate", "2s"), ("deactivate", "1s"), ("stop", "1s")];
    let config = timeouts
        .iter()
        .fold(config, |config, (method, limit)| config.set(&format!("component.alpha.{method}_timeout"), *limit));
    config.set("swap.hand_over_timeout", "2s").set("swap.drain", "10s").set("swap.probation", "1m")
}

/// Methods of the lives of all generations of a host's `alpha` so far, but for `OnPeer`.
pub fn lives(host: &Host) -> Vec<String> {
    let told = host.log().into_iter().filter(|line| line.message() == "life");
    let told = told.filter_map(|line| {
        let [generation, method, detail] = ["generation", "method", "detail"].map(|field| line.text(field));
        Some((generation?, method?, detail?))
    });
    let told = told.filter(|(_, method, _)| method != "OnPeer");
    told.map(|(generation, method, detail)| match detail.as_str() {
        _ if method == "Start" => format!("{generation} {method}"),
        "()" => format!("{generation} {method}"),
        _ => format!("{generation} {method} {detail}"),
    })
    .collect()
}

/// The private copies of plugins that a host has left in its folder.
pub fn copies(host: &Host) -> Vec<PathBuf> {
    let copies = std::fs::read_dir(host.directory().join("state/plugins")).into_iter().flatten().flatten();
    copies.map(|entry| entry.path()).collect()
}

fn alpha(folder: &TempDir) -> Value {
    let mut config = calling(&["beta"]);
    config["gated"] = json!([format!("/{}/Count", probe_plugin::service_name("alpha"))]);
    config["knobs_file"] = json!(knobs_file(folder));
    config["beats"] = json!(true);
    config
}

fn knobs_file(folder: &TempDir) -> PathBuf {
    folder.path().join("knobs")
}

/// A failure, for people.
pub fn text(status: Status) -> String {
    format!("{status:?}")
}
