//! Calls that run when their peer's session goes.

use std::time::Duration;

use componenthost::cluster::Record;
use probe_plugin::v1::{CallKind, CallRequest, Empty, Ending, ending::How};
use tests::clock::monotonic;
use tests::probe::{call, coordinator, held};
use tests::{Cluster, LIMIT, within};

use super::caller::{Caller, depends_on, unary};
use super::calls::Tally;
use super::row::{CUT_WITHIN, Row, TOLD_WITHIN};

#[tokio::test]
async fn running_calls_end_when_the_session_of_a_silent_peer_goes() {
    let mut row = Row::begin("07", "#6520 in flight when the session goes");
    let cluster = Cluster::start().await;
    let beta = cluster.probe("beta", coordinator()).await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "coordinator")])).await;
    beta.healthy().await;
    caller.goes_through(unary("beta")).await;
    let id = beta.server_id("beta").await;
    let mut tally = Tally::default();
    let endless = Ending { how: Some(How::Hang(Empty {})) };
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(20)) {
        let mut running = Vec::new();
        for kind in [CallKind::Hold, CallKind::ServerStream, CallKind::BidiStream] {
            let request = CallRequest { ending: Some(endless.clone()), ..call("beta", kind) };
            running.push(caller.running(request));
        }
        held(&beta.probe("beta").await, 1).await;
        row.pause(0..100).await;
        // Neither its answers nor the end of its connections will tell.
        beta.sigstop().await;
        let (key, Record { lease_id, .. }) = cluster.sessions("beta").await.pop_first().expect("it is registered");
        let begin = monotonic();
        if row.chance().bool() {
            cluster.delete(&key).await
        } else {
            cluster.etcd().revoke(lease_id).await
        }
        let deleted = caller.watcher().sees(begin, |seen| seen.is_delete() && seen.key == key).await.at;
        for call in running {
            let (at, ended) = within(LIMIT, call).await.expect("no panic");
            assert_eq!(ended.reason, "SESSION_GONE", "{ended:?}");
            row.cut_after(at.saturating_sub(deleted));
            tally.note(ended);
        }
        let (at, told) = caller.told(begin, "offline", id).await;
        let took = at.saturating_sub(deleted);
        assert!(took <= TOLD_WITHIN && told.reason == "SESSION_GONE", "after {took:?}: {told:?}");
        let refused = caller.call(unary("beta")).await;
        let took = Duration::from_micros(refused.elapsed_us);
        assert!(refused.code != 0 && took < CUT_WITHIN, "{refused:?}");
        tally.note(refused);

        beta.cont();
        let back = caller.appears(begin, id).await;
        row.ready_after(caller.goes_through(unary("beta")).await.saturating_sub(back.at));
    }
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}
