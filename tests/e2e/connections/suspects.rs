//! Peers that a doubted list misses: their links stay for as long as they answer.

use super::*;

/// A caller whose one node is a suspect.
async fn doubting(host: &FakeHost) -> (Caller, PeerEvents) {
    let mut caller = Caller::with_ready_node(quick(), host).await;
    let mut events = caller.events(NODE);
    caller.nodes.doubt(7).publish();
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Updated(peer) if peer.suspect && peer.is_callable()));
    (caller, events)
}

async fn went(events: &mut PeerEvents) -> String {
    let PeerChange::Offline { reason: Reason::SessionGone, error, .. } = next(events).await else { panic!("not gone") };
    error
}

#[tokio::test]
async fn a_suspect_that_answers_keeps_its_link_and_comes_back_without_a_gap() {
    let host = FakeHost::start(7, NODE);
    let (mut caller, mut events) = doubting(&host).await;
    let mut stream = drip(caller.node(7)).await;
    // The proof of the link, and two probes.
    eventually(LIMIT, async || holds(host.asked.load(Ordering::SeqCst) >= 3, ())).await;
    unary(caller.any_node(), "Metadata").await.expect("new calls go on");
    assert!(caller.manager.view().iter().flat_map(|role| &role.peers).any(|peer| peer.suspect));
    caller.nodes.register(7, host.address);
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(peer) if !peer.suspect));
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "the stream goes on");
}

#[tokio::test]
async fn a_suspect_that_does_not_answer_is_let_go_and_may_come_back() {
    let host = FakeHost::start(7, NODE);
    let (mut caller, mut events) = doubting(&host).await;
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    held(&host, 1).await;
    host.silent.send_replace(true);
    assert!(went(&mut events).await.contains("did not say who it is within 1s"));
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::SessionGone);
    assert_eq!(refusal(unary(caller.node(7), "Metadata").await).reason, Reason::SessionGone);
    host.silent.send_replace(false);
    caller.nodes.register(7, host.address);
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(_)));
}

#[tokio::test]
async fn a_suspect_whose_link_breaks_is_let_go() {
    let host = FakeHost::start(7, NODE);
    let (_caller, mut events) = doubting(&host).await;
    host.kill();
    went(&mut events).await;
}

#[tokio::test]
async fn a_suspect_without_a_link_is_let_go_at_once() {
    let mut caller = Caller::with(quick());
    caller.nodes.register(7, closed_port());
    caller.link(7, PeerLink::Retrying).await;
    let mut events = caller.events(NODE);
    caller.nodes.doubt(7).publish();
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(went(&mut events).await.contains("no link proves"));
}

#[tokio::test]
async fn a_suspect_whose_time_is_over_is_gone_as_by_a_delete() {
    let host = FakeHost::start(7, NODE);
    let (mut caller, mut events) = doubting(&host).await;
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    held(&host, 1).await;
    caller.nodes.delete(7).publish();
    went(&mut events).await;
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::SessionGone);
}
