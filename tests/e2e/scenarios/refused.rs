//! Calls to whom nobody can call.

use std::time::Instant;

use plugin_api::refusal::{Executed, Refusal, key};
use plugin_api::state::StateCode;
use probe_plugin::v1::{CallResponse, EchoRequest};
use tests::clock::monotonic;
use tests::probe::{coordinator, faulty};
use tests::{Cluster, LIMIT, eventually, within};
use tonic::Code;

use super::caller::{Caller, depends_on, unary};
use super::calls::{Calls, Tally};
use super::row::{CUT_WITHIN, Row};

#[tokio::test]
async fn a_call_without_a_deadline_to_a_dead_role_is_refused_at_once_and_blocks_no_other() {
    let mut row = Row::begin("04", "#5985 no deadline, dead role");
    let cluster = Cluster::start().await;
    let roles = [("beta", "coordinator"), ("gamma", "coordinator"), ("never", "coordinator")];
    let caller = Caller::start(&cluster, depends_on(&roles)).await;
    let beta = cluster.probe("beta", coordinator()).await;
    let gamma = cluster.probe("gamma", coordinator()).await;
    for (host, role) in [(&beta, "beta"), (&gamma, "gamma")] {
        host.healthy().await;
        caller.goes_through(unary(role)).await;
    }
    let others = Calls::begin(&caller.probe, unary("gamma"));
    let killed = monotonic();
    let id = beta.server_id("beta").await;
    beta.kill9();
    caller.truth.ended("beta", id);
    let dead = [Calls::begin(&caller.probe, unary("beta")), Calls::begin(&caller.probe, unary("never"))];
    // At first its session is there and its link is not; then neither is.
    caller.watcher().sees(killed, |seen| seen.is_delete()).await;
    row.pause(200..400).await;
    for calls in dead {
        let tally = calls.end().await;
        assert!(tally.made() > 10 && tally.failed.len() == tally.made(), "{tally:#?}");
        let reasons = ["LINK_LOST", "CONNECTING", "CONNECT_FAILED", "SESSION_GONE", "NO_SUCH_PEER"];
        let unknown = tally.failed.iter().find(|failure| !reasons.contains(&failure.reason.as_str()));
        assert!(unknown.is_none(), "{unknown:?}");
        assert!(tally.slowest() <= CUT_WITHIN, "refused after {:?}", tally.slowest());
        row.calls(&tally);
    }
    let tally = others.end().await;
    tally.assert_none_failed();
    assert!(tally.slowest() <= CUT_WITHIN, "another role's call took {:?}", tally.slowest());
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

/// Each state in which a component is not called; it is asked past all callers, as a foreign client may.
#[tokio::test]
async fn a_component_that_is_not_healthy_answers_with_its_state() {
    let mut row = Row::begin("05", "#6040 served before init");
    let cluster = Cluster::start().await;
    let mut tally = Tally::default();
    let directory = tempfile::tempdir().expect("a directory");
    let fault = directory.path().join("fault");
    std::fs::write(&fault, "").expect("a file");
    for (role, how, state) in [("beta", "hang", StateCode::Initializing), ("gamma", "fail", StateCode::Abnormal)] {
        std::fs::write(&fault, "").expect("a file");
        let host = cluster.spawn(cluster.config().probe(role, faulty("start", how, &fault)));
        eventually(LIMIT, async || {
            let mut probe = host.probe(role).await;
            let begin = Instant::now();
            let status = within(LIMIT, probe.echo(EchoRequest::default())).await.expect_err("it is not Healthy");
            tally.note(CallResponse {
                code: status.code() as i32,
                elapsed_us: u64::try_from(begin.elapsed().as_micros()).expect("a short time"),
                ..CallResponse::default()
            });
            let refusal = Refusal::from_status(&status).ok_or_else(|| format!("no refusal: {status:?}"))?;
            assert_eq!((status.code(), refusal.executed), (Code::Unavailable, Executed::No), "{status:?}");
            assert_eq!(refusal.reason.as_str(), "NOT_HEALTHY", "{status:?}");
            let code = refusal.details.get(key::STATE_CODE).cloned();
            // A component that has failed is started again and again, and Initializing in between.
            if code == Some(state.to_string()) { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
        host.assert_running();
        if how == "fail" {
            std::fs::remove_file(&fault).expect("it is there");
            host.healthy().await.probe(role).await.echo(EchoRequest::default()).await.expect("it has started");
        }
    }
    assert!(tally.slowest() <= CUT_WITHIN, "refused after {:?}", tally.slowest());
    row.calls(&tally);
    row.end();
}
