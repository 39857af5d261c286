//! A caller and two nodes that it calls, their calls running, with three members of etcd; and what no outage may do to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use etcd_client::GetOptions;
use plugin_api::identity::{Role, ServerId};
use probe_plugin::v1::{CallKind, CallRequest, CallResponse, ReleaseRequest};
use serde_json::{Value, json};
use tests::client::Probe;
use tests::cluster::TTL_SECONDS;
use tests::etcd::{Etcd, Settings};
use tests::metrics::{Format, scrape};
use tests::probe::{call, held};
use tests::{Cluster, Host, LIMIT, eventually, holds, within};
use tokio::task::JoinHandle;

use super::shown::{dependency, events_of, peer, registration};
use super::traffic::{Seen, Traffic};

/// The key of the calls that are held all the while.
const KEY: &str = "outage";

/// The member that all hosts use while it answers: the first of their configuration.
pub const IN_USE: usize = 0;

/// A session's key, the revision at which it was created, and its lease.
type Registrations = BTreeMap<String, (i64, String)>;

/// The hosts of a test.
pub struct Rig {
    pub cluster: Cluster,
    /// Its probe `alpha` serves on whatever etcd does, and calls the nodes `beta`.
    pub alpha: Host,
    pub betas: Vec<Beta>,
    /// Of each session.
    pub ttl: Duration,
    probe: Probe,
    before: Registrations,
}

/// A node, and a call to it that runs over alpha's link until the end.
pub struct Beta {
    pub host: Host,
    id: i64,
    dials: u64,
    running: JoinHandle<CallResponse>,
}

/// What became of the sessions.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Some host did not know for a while whether it is registered.
    pub uncertain: bool,
    /// Those whose registration etcd kept.
    pub kept: usize,
    /// Those that are registered anew.
    pub anew: usize,
}

impl Rig {
    /// Three members, three hosts, all proved and calling.
    pub async fn start() -> Self {
        Self::with(Settings::three_members(), TTL_SECONDS).await
    }

    /// The same with an etcd of these settings, and sessions of this TTL in seconds.
    pub async fn with(settings: Settings, ttl: u64) -> Self {
        let cluster = Cluster::with_etcd(Etcd::start_with(settings).await);
        let config = || {
            let config = cluster.config().set("session.ttl", format!("{ttl}s"));
            let config = config.set("etcd.request_timeout", "1s").set("etcd.connect_timeout", "500ms");
            config.set("discovery.ask_after", "500ms").set("discovery.answer_within", "500ms")
        };
        let caller = json!({
            "kind": "coordinator",
            "lease_policy": "serve",
            "dependencies": [{ "role": "beta", "kind": "node" }],
        });
        let alpha = cluster.host(config().probe("alpha", caller)).await;
        let hosts = [(); 2].map(|()| cluster.spawn(config().probe("beta", json!({ "kind": "node" }))));
        let probe = alpha.healthy().await.probe("alpha").await;
        let mut betas = Vec::new();
        for host in hosts {
            betas.push(Beta::begin(host, &alpha, &probe).await);
        }
        let ttl = Duration::from_secs(ttl);
        let mut rig = Self { cluster, alpha, betas, ttl, probe, before: BTreeMap::new() };
        rig.before = rig.settled().await;
        rig
    }

    /// Its etcd.
    pub fn etcd(&self) -> &Etcd {
        self.cluster.etcd()
    }

    /// Makes another member lead than the one that all hosts use.
    pub async fn with_another_leader(self) -> Self {
        if self.etcd().leader().await == IN_USE {
            self.etcd().move_leader().await;
        }
        self
    }

    /// Makes the member lead that all hosts use.
    pub async fn with_the_leader_in_use(self) -> Self {
        while self.etcd().leader().await != IN_USE {
            self.etcd().move_leader().await;
        }
        self
    }

    /// Each host with its role.
    pub fn hosts(&self) -> impl Iterator<Item = (&Host, &'static str)> {
        let betas = self.betas.iter().map(|beta| (&beta.host, "beta"));
        std::iter::once((&self.alpha, "alpha")).chain(betas)
    }

    /// Calls both nodes through alpha, and alpha itself, and looks at each session, until it is stopped.
    pub async fn traffic(&self) -> Traffic {
        let ids = self.betas.iter().map(|beta| beta.id).collect();
        let mut sessions = Vec::new();
        for (host, role) in self.hosts() {
            sessions.push((host.admin_address().await, format!("/api/v1/components/{role}")));
        }
        Traffic::begin(self.probe.clone(), ids, sessions)
    }

    /// Waits until no session is certain any more.
    pub async fn lost(&self) {
        for (host, role) in self.hosts() {
            eventually(LIMIT, || async {
                let view = host.component(role).await["session"].clone();
                holds(view["state"] == "lost", view)
            })
            .await;
        }
    }

    /// Waits until each session has just been renewed: that is done when a third of its time is over.
    pub async fn renewed(&self) {
        let fresh = u64::try_from((self.ttl * 5 / 6).as_millis()).expect("a TTL is short");
        for (host, role) in self.hosts() {
            eventually(LIMIT, || async {
                let view = host.component(role).await["session"].clone();
                holds(view["time_left_ms"].as_u64() >= Some(fresh), view)
            })
            .await;
        }
    }

    /// How long after `since` the last session was held again: each has to be, by itself.
    pub async fn back(&self, since: Instant) -> Duration {
        for (host, role) in self.hosts() {
            eventually(LIMIT, || async {
                let view = host.component(role).await["session"].clone();
                holds(view["state"] == "held", view)
            })
            .await;
        }
        since.elapsed()
    }

    /// What alpha shows of its table of the nodes.
    pub async fn table(&self) -> Value {
        let view = self.alpha.connections().await;
        let roles = view["discovery"].as_array().cloned().unwrap_or_default();
        roles.into_iter().find(|role| role["role"] == "beta").expect("alpha follows beta")
    }

    /// Why alpha's watch of the nodes was made again, each time.
    pub async fn restarts(&self) -> Vec<String> {
        let restarts = self.table().await["last_restarts"].as_array().cloned().unwrap_or_default();
        restarts.iter().map(|restart| restart["why"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The sum of one of alpha's metrics of etcd over its watch of the nodes, with these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = [&[("role", "beta")], labels].concat();
        scrape(&self.alpha, Format::OpenMetrics).await.sum(&format!("componenthost_etcd_{name}"), &labels)
    }

    /// How many renewals of all sessions were asked for through another member as well.
    pub async fn hedged_renewals(&self) -> u64 {
        let mut hedged = 0;
        for (host, role) in self.hosts() {
            hedged += host.component(role).await["session"]["hedged_renewals"].as_u64().expect("a number of renewals");
        }
        hedged
    }

    /// Where a node of this id has its key.
    pub fn node_key(&self, id: i64) -> String {
        self.cluster.keys().member_session(&Role::new("beta").expect("a role"), ServerId(id))
    }

    /// A node that comes now is found and called.
    pub async fn finds_a_new_node(&self) {
        let node = self.cluster.probe("beta", json!({ "kind": "node" })).await;
        let id = server_id(node.healthy().await, "beta").await;
        reaches(&self.probe, id).await;
    }

    /// Waits until etcd, each host and alpha's links tell the same, and judges: no host has ended, and where etcd kept a
    /// session its link was not touched, the call on it still runs, and no other call has failed.
    pub async fn end(mut self, traffic: Traffic) -> Outcome {
        let after = self.settled().await;
        let seen = traffic.end().await;
        let mut outcome = Outcome { kept: 0, anew: 0, uncertain: seen.uncertain };
        for (key, registration) in &self.before {
            let kept = after.get(key) == Some(registration);
            *(if kept { &mut outcome.kept } else { &mut outcome.anew }) += 1;
        }
        if outcome.anew == 0 {
            let Seen { count, failed, .. } = seen;
            assert!(failed.is_empty() && count > 0, "{} of {count} calls failed: {failed:#?}", failed.len());
        }
        let view = dependency(&self.alpha).await;
        for beta in std::mem::take(&mut self.betas) {
            let key = &self.node_key(beta.id);
            let told = events_of(&view, beta.id);
            if after.get(key) == self.before.get(key) {
                assert_eq!(told, ["online"], "its session was kept: {view:#}");
                beta.finish(&view).await;
            } else {
                let again = told.iter().filter(|event| *event == "reregistered").count();
                assert_eq!(again, 1, "one registration, one event: {told:?}");
            }
        }
        outcome
    }

    async fn settled(&self) -> Registrations {
        eventually(LIMIT, || async {
            let in_etcd = self.registrations().await?;
            let view = dependency(&self.alpha).await;
            for (host, role) in self.hosts() {
                host.assert_running();
                let session = &host.component(role).await["session"];
                let key = session["key"].as_str().unwrap_or_default().to_owned();
                if session["state"] != "held" || in_etcd.get(&key) != registration(session).as_ref() {
                    return Err(format!("{session} and {in_etcd:?}"));
                }
                let peer = peer(&view, session["server_id"].as_i64().unwrap_or_default());
                let is_shown = registration(&peer) == registration(session) && peer["link"] == "ready";
                if role == "beta" && !is_shown {
                    return Err(format!("{peer}"));
                }
            }
            Ok(in_etcd)
        })
        .await
    }

    async fn registrations(&self) -> Result<Registrations, String> {
        let prefix = self.cluster.keys().next_server_id();
        let prefix = prefix.strip_suffix("id").expect("the counter lies beside the sessions");
        let mut client = self.etcd().client().await;
        let answer =
            client.get(prefix, Some(GetOptions::new().with_prefix())).await.map_err(|error| error.to_string())?;
        let entry = |stored: &etcd_client::KeyValue| {
            (
                String::from_utf8_lossy(stored.key()).into_owned(),
                (stored.create_revision(), format!("{:x}", stored.lease())),
            )
        };
        Ok(answer.kvs().iter().filter(|stored| stored.lease() != 0).map(entry).collect())
    }
}

impl Beta {
    async fn begin(host: Host, alpha: &Host, probe: &Probe) -> Self {
        host.healthy().await;
        let id = server_id(&host, "beta").await;
        reaches(probe, id).await;
        let request = CallRequest { server_id: Some(id), key: KEY.to_owned(), ..call("beta", CallKind::Hold) };
        let mut caller = probe.clone();
        let running =
            tokio::spawn(async move { caller.call(request).await.expect("alpha's probe answers").into_inner() });
        held(&host.probe("beta").await, 1).await;
        let dials = peer(&dependency(alpha).await, id)["attempts"].as_u64().expect("a number of dials");
        Self { host, id, dials, running }
    }

    /// Its call has run all the while over the link that there was, and ends well.
    async fn finish(self, view: &Value) {
        assert_eq!(peer(view, self.id)["attempts"], self.dials, "the link was made again: {view:#}");
        let mut probe = self.host.probe("beta").await;
        held(&probe, 1).await;
        probe.release(ReleaseRequest { key: KEY.to_owned() }).await.expect("the probe releases");
        let seen = within(LIMIT, self.running).await.expect("no panic");
        assert_eq!(seen.code, 0, "{seen:?}");
    }
}

async fn reaches(probe: &Probe, id: i64) {
    let request = CallRequest { server_id: Some(id), ..call("beta", CallKind::Unary) };
    tests::probe::reaches(probe, &request).await;
}

async fn server_id(host: &Host, role: &str) -> i64 {
    host.component(role).await["server_id"].as_i64().expect("a host that is Healthy has its id")
}
