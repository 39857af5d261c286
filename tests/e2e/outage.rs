//! What outages of etcd do to hosts: nothing that etcd did not do to their sessions.
//!
//! Each test lasts a few seconds; with `FULL=1` as long as such an outage does, and prints what it measured.

mod rig;
mod shown;
mod traffic;

use std::time::{Duration, Instant};

use componenthost::cluster::Record;
use serde_json::json;
use tests::etcd::{Etcd, Settings};
use tests::{LIMIT, eventually, form, holds, short_or_full};

use rig::{IN_USE, Outcome, Rig};

/// All sessions as they were, and at no time a doubt.
const UNTOUCHED: Outcome = Outcome { kept: 3, anew: 0, uncertain: false };

/// A session is back within this time of etcd's return, on a machine that does much else; 1 s where it does not.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn sessions_come_back_by_themselves_after_etcd_was_silent_past_their_ttl() {
    let rig = Rig::start().await;
    let traffic = rig.traffic().await;
    rig.etcd().stop().await;
    rig.lost().await;
    tokio::time::sleep(short_or_full(rig.ttl / 2, Duration::from_secs(30))).await;
    rig.etcd().cont();
    let back = rig.back(Instant::now()).await;
    assert!(back < BACK_WITHIN, "back after {back:?}");
    let outcome = rig.end(traffic).await;
    measured("etcd silent", back, &outcome);
}

#[tokio::test]
async fn an_etcd_that_was_killed_and_restarted_has_kept_all_sessions() {
    let rig = Rig::start().await;
    let traffic = rig.traffic().await;
    rig.etcd().kill();
    rig.lost().await;
    tokio::time::sleep(short_or_full(Duration::ZERO, Duration::from_secs(30))).await;
    // A restarted etcd gives each lease its whole time again, and the hosts ask for the old one first.
    rig.etcd().restart().await;
    let back = rig.back(Instant::now()).await;
    assert!(back < BACK_WITHIN, "back after {back:?}");
    let outcome = rig.end(traffic).await;
    measured("etcd killed", back, &outcome);
    assert_eq!(outcome, Outcome { uncertain: true, ..UNTOUCHED });
}

#[tokio::test]
async fn hosts_that_were_cut_off_past_their_ttl_register_again_once() {
    let rig = Rig::start().await;
    let traffic = rig.traffic().await;
    rig.etcd().members().iter().for_each(|member| member.proxy().cut());
    eventually(LIMIT, || async {
        let mut left = rig.cluster.sessions("alpha").await;
        left.append(&mut rig.cluster.sessions("beta").await);
        holds(left.is_empty(), left)
    })
    .await;
    rig.etcd().members().iter().for_each(|member| member.proxy().heal());
    let back = rig.back(Instant::now()).await;
    assert!(back < BACK_WITHIN, "back after {back:?}");
    let outcome = rig.end(traffic).await;
    measured("hosts cut off", back, &outcome);
    assert_eq!(outcome, Outcome { kept: 0, anew: 3, uncertain: true });
}

/// The member that every host uses is lost in this way, and comes back. Says how many renewals were asked for through another
/// as well, because the one in use was silent.
async fn without_the_member_in_use(rig: Rig, lose: impl AsyncFn(&Etcd), regain: impl AsyncFn(&Etcd)) -> u64 {
    let traffic = rig.traffic().await;
    lose(rig.etcd()).await;
    // A session that was renewed through nobody would be gone by then.
    tokio::time::sleep(short_or_full(rig.ttl * 3 / 2, rig.ttl * 10)).await;
    rig.finds_a_new_node().await;
    let restarts = rig.restarts().await;
    assert!(!restarts.is_empty() && restarts.iter().all(|why| !why.is_empty()), "{restarts:?}");
    regain(rig.etcd()).await;
    let hedged = rig.hedged_renewals().await;
    assert_eq!(rig.end(traffic).await, UNTOUCHED);
    hedged
}

#[tokio::test]
async fn a_killed_member_costs_no_session() {
    let lose = async |etcd: &Etcd| etcd.member(IN_USE).kill();
    let regain = async |etcd: &Etcd| etcd.restart_member(IN_USE).await;
    without_the_member_in_use(Rig::start().await, lose, regain).await;
}

#[tokio::test]
async fn a_cut_member_costs_no_session() {
    let lose = async |etcd: &Etcd| etcd.member(IN_USE).proxy().cut();
    let regain = async |etcd: &Etcd| etcd.member(IN_USE).proxy().heal();
    without_the_member_in_use(Rig::start().await, lose, regain).await;
}

#[tokio::test]
async fn a_black_holed_member_costs_no_session() {
    let lose = async |etcd: &Etcd| etcd.member(IN_USE).proxy().black_hole();
    let regain = async |etcd: &Etcd| etcd.member(IN_USE).proxy().heal();
    assert!(without_the_member_in_use(Rig::start().await, lose, regain).await > 0, "one renewal found it out");
}

#[tokio::test]
async fn a_follower_that_is_held_costs_no_session() {
    let lose = async |etcd: &Etcd| etcd.member(IN_USE).stop().await;
    let regain = async |etcd: &Etcd| etcd.member(IN_USE).cont();
    without_the_member_in_use(Rig::start().await.with_another_leader().await, lose, regain).await;
}

/// Others go on asking the one that is held until they have elected another, and answer nothing else on that stream.
///
/// It does not wake up, but is started again: etcd before 3.4.31 and 3.5.13 lets a leader that wakes up revoke the leases
/// that were renewed through its successor (etcd's issue 15247), and no host can do anything about that.
#[tokio::test]
async fn a_leader_that_is_held_costs_no_session() {
    let (heartbeat, election) = (Duration::from_millis(20), Duration::from_millis(200));
    let rig = Rig::with(Settings { heartbeat, election, ..Settings::three_members() }, 3).await;
    let lose = async |etcd: &Etcd| etcd.member(IN_USE).stop().await;
    let regain = async |etcd: &Etcd| etcd.restart_member(IN_USE).await;
    without_the_member_in_use(rig.with_the_leader_in_use().await, lose, regain).await;
}

#[tokio::test]
async fn a_leader_that_moves_again_and_again_costs_nothing() {
    let rig = Rig::start().await;
    let traffic = rig.traffic().await;
    let (moves, pause) = short_or_full((6, Duration::from_millis(400)), (24, Duration::from_secs(5)));
    for _ in 0..moves {
        rig.etcd().move_leader().await;
        tokio::time::sleep(pause).await;
    }
    assert_eq!(rig.end(traffic).await, UNTOUCHED);
}

#[tokio::test]
async fn members_that_are_restarted_one_after_the_other_cost_nothing() {
    // Two elections, where the first is a tie, may take 2 s of it.
    let rig = Rig::with(Settings::three_members(), 3).await;
    let traffic = rig.traffic().await;
    for _ in 0..short_or_full(1, 5) {
        for member in 0..3 {
            rig.etcd().restart_member(member).await;
            rig.renewed().await;
        }
    }
    rig.finds_a_new_node().await;
    assert_eq!(rig.end(traffic).await, UNTOUCHED);
}

#[tokio::test]
async fn what_happened_during_a_cut_is_known_after_it_though_etcd_threw_it_away() {
    let rig = Rig::start().await;
    let traffic = rig.traffic().await;
    rig.etcd().members().iter().for_each(|member| member.proxy().cut());
    put(&rig, &rig.node_key(900), node(900)).await;
    rig.etcd().compact().await;
    eventually(LIMIT, async || {
        let connected = rig.metric("connected", &[]).await;
        let lost = rig.metric("watch_restarts_total", &[("reason", "lost")]).await;
        holds(connected == Some(0.0) && lost >= Some(1.0), (connected, lost))
    })
    .await;
    rig.etcd().members().iter().for_each(|member| member.proxy().heal());
    eventually(LIMIT, || async {
        let table = rig.table().await;
        holds(table["sessions"] == 3, table)
    })
    .await;
    let restarts = rig.restarts().await;
    assert!(restarts.iter().any(|why| why.contains("compacted")), "{restarts:?}");
    let compacted = rig.metric("watch_restarts_total", &[("reason", "compacted")]).await;
    assert_eq!((rig.metric("connected", &[]).await, compacted), (Some(1.0), Some(1.0)));
    assert_eq!(rig.metric("watch_restarts_total", &[]).await, Some(restarts.len() as f64));
    assert_eq!(rig.end(traffic).await, UNTOUCHED);
}

#[tokio::test]
async fn sessions_of_others_hide_nothing() {
    let rig = Rig::start().await;
    let traffic = rig.traffic().await;
    let wide = json!({ "ServerID": 902, "Address": "127.0.0.1:1", "ServerLabels": { "wide": "x".repeat(1 << 20) } });
    for (id, value) in [(900, node(900)), (901, milvus_node(901)), (902, wide.to_string().into_bytes())] {
        put(&rig, &rig.node_key(id), value).await;
    }
    for (id, value) in [(910, b"{\"ServerID\":910,".to_vec()), (911, vec![0xff, 0xfe]), (912, vec![b'x'; 1 << 20])] {
        put(&rig, &rig.node_key(id), value).await;
    }
    // Other roles whose names begin so, and keys that are no session's.
    for suffix in ["s-920", "-921x", "-", "node", "/922"] {
        let key = format!("{}{suffix}", rig.node_key(0).trim_end_matches("-0"));
        put(&rig, &key, node(920)).await;
    }
    rig.finds_a_new_node().await;
    eventually(LIMIT, || async {
        let table = rig.table().await;
        let skipped: Vec<_> = table["skipped_now"].as_array().into_iter().flatten().map(|one| one[0].clone()).collect();
        let wanted: Vec<_> = [910, 911, 912].map(|id| json!(rig.node_key(id))).into();
        holds(table["sessions"].as_u64() >= Some(5) && skipped == wanted, table)
    })
    .await;
    assert_eq!(rig.metric("events_invalid_total", &[]).await, Some(3.0));
    assert!(rig.metric("events_valid_total", &[]).await >= Some(6.0), "two nodes, three of others, and one that came");
    assert_eq!(rig.end(traffic).await, UNTOUCHED);
}

async fn put(rig: &Rig, key: &str, value: Vec<u8>) {
    rig.etcd().client().await.put(key, value, None).await.expect("etcd takes any value");
}

/// A node's session as another host of ours puts it.
fn node(id: i64) -> Vec<u8> {
    serde_json::to_vec(&Record { server_id: id, address: "127.0.0.1:1".to_owned(), ..Record::default() }).expect("JSON")
}

/// A node's session as Milvus puts it, with fields that we do not know.
fn milvus_node(id: i64) -> Vec<u8> {
    let value = json!({
        "ServerID": id,
        "ServerName": "beta",
        "Address": "127.0.0.1:1",
        "TriggerKill": true,
        "Version": "2.3.7",
        "IndexEngineVersion": {},
        "LeaseID": 7_587_876_367_135_244_822_i64,
        "HostName": "582ed5546221",
        "EnableDisk": true,
    });
    value.to_string().into_bytes()
}

#[expect(clippy::print_stderr, reason = "the long form is run for its figures")]
fn measured(what: &str, back: Duration, outcome: &Outcome) {
    if form::is_full() {
        eprintln!("{what}: all sessions back after {back:?}: {outcome:?}");
    }
}
