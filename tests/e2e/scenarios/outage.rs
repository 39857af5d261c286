//! etcd is silent, dies, or is led by another: what the policies *serve* and *fence* promise to callers meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::etcd::{Etcd, Settings};
use tests::{Cluster, Host, LIMIT, eventually, short_or_full};

use super::caller::{Caller, depends_on, unary, unary_within};
use super::calls::{Calls, Tally};
use super::row::Row;

/// Sessions are held again within this time of etcd's return, on a machine that does much else.
const BACK_WITHIN: Duration = Duration::from_secs(5);

const DEADLINE: Duration = Duration::from_secs(1);

/// A caller, a role that serves on without its session, one that does not, and the calls to the first.
struct Scene {
    cluster: Cluster,
    caller: Caller,
    hosts: [Host; 2],
    registrations: Vec<Value>,
    calls: Calls,
}

const ROLES: [&str; 2] = ["serving", "fenced"];

impl Scene {
    async fn of(etcd: Etcd) -> Self {
        let cluster = Cluster::with_etcd(etcd);
        let config = || {
            let config = cluster.config().set("etcd.request_timeout", "1s").set("etcd.connect_timeout", "500ms");
            config.set("discovery.ask_after", "500ms").set("discovery.answer_within", "500ms")
        };
        let probe = |policy: &str| json!({ "kind": "coordinator", "lease_policy": policy });
        let hosts = [
            cluster.host(config().probe("serving", probe("serve"))).await,
            cluster.host(config().probe("fenced", probe("fence"))).await,
        ];
        let config = config().probe("alpha", depends_on(&ROLES.map(|role| (role, "coordinator"))));
        let caller = Caller::start_with(&cluster, config).await;
        for (host, role) in hosts.iter().zip(ROLES) {
            host.healthy().await;
            caller.goes_through(unary(role)).await;
        }
        let registrations = registrations(&caller).await;
        let calls = Calls::begin(&caller.probe, unary_within("serving", DEADLINE));
        Self { cluster, caller, hosts, registrations, calls }
    }

    fn etcd(&self) -> &Etcd {
        self.cluster.etcd()
    }

    /// Waits until the role that may not serve without its session says so, and goes on saying so.
    async fn is_fenced(&self, tally: &mut Tally) {
        eventually(LIMIT, async || {
            let seen = self.caller.call(unary_within("fenced", DEADLINE)).await;
            if seen.reason == "FENCED" { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        for _ in 0..20 {
            let seen = self.caller.call(unary_within("fenced", DEADLINE)).await;
            assert!(seen.code != 0, "it serves without its session: {seen:?}");
            tally.note(seen);
        }
    }

    /// etcd is there again: so is everything else, by itself, and each session that it did not keep is told of once.
    async fn comes_back(self, mut row: Row, back: Instant) {
        for role in ROLES {
            self.caller.goes_through(unary_within(role, DEADLINE)).await;
        }
        for (host, role) in self.hosts.iter().zip(ROLES).chain([(&self.caller.host, "alpha")]) {
            eventually(LIMIT, async || {
                let session = host.component(role).await["session"].clone();
                if session["state"] == "held" { Ok(()) } else { Err(session) }
            })
            .await;
        }
        row.ready_after_within(back.elapsed(), BACK_WITHIN);
        let tally = self.calls.end().await;
        let after = registrations(&self.caller).await;
        if after[0] == self.registrations[0] {
            tally.assert_none_failed();
        }
        row.calls(&tally);
        for ((role, before), after) in ROLES.into_iter().zip(&self.registrations).zip(&after) {
            let view = self.caller.dependency(role).await;
            let events = view["events"].as_array().into_iter().flatten();
            let again = events.filter(|event| event["event"] == "reregistered").count();
            assert_eq!(again, usize::from(before != after), "one registration, one event: {view:#}");
        }
        for host in &self.hosts {
            host.assert_running();
        }
        self.caller.host.assert_running();
        self.caller.truth.finish();
        row.end();
    }
}

async fn registrations(caller: &Caller) -> Vec<Value> {
    let mut registrations = Vec::new();
    for role in ROLES {
        registrations.push(caller.dependency(role).await["peers"][0]["registration"].clone());
    }
    registrations
}

#[tokio::test]
async fn etcd_is_silent_past_the_leases_end() {
    let mut row = Row::begin("09a", "#6157 #26846 #42833 etcd silent");
    let scene = Scene::of(Etcd::start().await).await;
    scene.caller.truth.cut_off();
    scene.etcd().stop().await;
    let mut tally = Tally::default();
    scene.is_fenced(&mut tally).await;
    row.calls(&tally);
    tokio::time::sleep(short_or_full(Duration::from_millis(500), Duration::from_secs(28))).await;
    scene.etcd().cont();
    scene.caller.truth.healed();
    scene.comes_back(row, Instant::now()).await;
}

#[tokio::test]
async fn etcd_is_killed_and_started_again() {
    let mut row = Row::begin("09b", "#6157 #26846 #42833 etcd killed");
    let scene = Scene::of(Etcd::start().await).await;
    scene.caller.truth.cut_off();
    scene.etcd().kill();
    let mut tally = Tally::default();
    scene.is_fenced(&mut tally).await;
    row.calls(&tally);
    tokio::time::sleep(short_or_full(Duration::ZERO, Duration::from_secs(28))).await;
    scene.etcd().restart().await;
    scene.caller.truth.healed();
    scene.comes_back(row, Instant::now()).await;
}

#[tokio::test]
async fn the_leader_of_etcd_moves_again_and_again() {
    let mut row = Row::begin("09c", "#6157 #26846 #42833 etcd's leader moved");
    let scene = Scene::of(Etcd::start_with(Settings::three_members()).await).await;
    let fenced = Calls::begin(&scene.caller.probe, unary_within("fenced", DEADLINE));
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(30)) {
        scene.etcd().move_leader().await;
        row.pause(100..500).await;
    }
    let tally = fenced.end().await;
    tally.assert_none_failed();
    row.calls(&tally);
    let before = scene.registrations.clone();
    assert_eq!(registrations(&scene.caller).await, before, "no session was lost");
    scene.comes_back(row, Instant::now()).await;
}
