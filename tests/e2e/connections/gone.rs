//! Sessions that go, move and stop, links that break: what becomes of the calls, and who is called next.

use super::*;

#[tokio::test]
async fn a_deleted_session_cuts_running_calls_at_once() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    let mut stream = drip(caller.node(7)).await;
    let upload = tokio::spawn(endless_upload(caller.node(7)));
    held(&host, 2).await;

    let begin = Instant::now();
    caller.nodes.delete(7).publish();
    let cut = refusal(running.await.expect("no panic"));
    assert_eq!((cut.reason, cut.executed), (Reason::SessionGone, Executed::Unknown));
    assert_eq!(cut.details[key::SESSION], "gone");
    assert_eq!(refusal(stream.message().await).reason, Reason::SessionGone);
    assert_eq!(refusal(upload.await.expect("no panic")).reason, Reason::SessionGone);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    held(&host, 0).await;

    assert!(matches!(next(&mut events).await, PeerChange::Table(peers) if peers.len() == 1));
    let PeerChange::Offline { peer, reason, .. } = next(&mut events).await else { panic!("not offline") };
    assert_eq!((peer.session, reason), (PeerSession::Gone, Reason::SessionGone));
    let refused = refusal(ask(caller.node(7), "Metadata", waiting(LIMIT)).await);
    assert_eq!((refused.reason, refused.executed), (Reason::SessionGone, Executed::No));
    assert_eq!(refusal(unary(caller.any_node(), "Metadata").await).reason, Reason::NoSuchPeer);
}

#[tokio::test]
async fn an_upload_ends_with_its_call() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let uploads = std::sync::Arc::new(());
    let messages = futures_util::stream::unfold(std::sync::Arc::clone(&uploads), async |held| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Some(("x".to_owned(), held))
    });
    let mut client = grpc(caller.node(7));
    let answer = client.streaming(Request::new(Box::pin(messages)), path("Echo"), Codec::default()).await;
    let mut echoed = answer.expect("the stream begins").into_inner();
    assert!(echoed.message().await.expect("a message").is_some());
    caller.nodes.delete(7).publish();
    while echoed.message().await.is_ok_and(|message| message.is_some()) {}
    // Without its link, too: nothing reads an upload any more whose call is over.
    eventually(SOON, async || {
        let held = std::sync::Arc::strong_count(&uploads);
        holds(held == 1, held)
    })
    .await;
}

#[tokio::test]
async fn a_replaced_coordinator_cuts_and_the_next_call_reaches_the_new_one() {
    let (old, new) = (FakeHost::start(3, COORDINATOR), FakeHost::start(4, COORDINATOR));
    let mut caller = Caller::with(quick());
    let mut events = caller.events(COORDINATOR);
    caller.coordinators.activate(3, old.address).publish();
    ask(caller.coordinator(), "Metadata", waiting(LIMIT)).await.expect("the old one answers");
    let running = tokio::spawn(unary(caller.coordinator(), "Hold"));
    held(&old, 1).await;

    caller.coordinators.delete(3).activate(4, new.address).publish();
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::PeerReplaced);
    let seen = ask(caller.coordinator(), "Metadata", waiting(LIMIT)).await.expect("the new one answers");
    assert!(seen.contains(r#""serverid": "4""#), "{seen}");
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(peer) if peer.server_id == ServerId(3)));
    let PeerChange::Replaced { old, new } = next(&mut events).await else { panic!("not replaced") };
    assert_eq!((old.server_id, new.server_id), (ServerId(3), ServerId(4)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(peer) if peer.server_id == ServerId(4)));
}

#[tokio::test]
async fn a_standby_is_proved_for_later_and_its_takeover_cuts_nothing_on_its_link() {
    let host = FakeHost::start(4, COORDINATOR);
    host.code.send_replace(StateCode::StandBy);
    let mut caller = Caller::with(quick());
    let mut standby = caller.coordinators.entry(4, host.address);
    (standby.standby, standby.record.exclusive) = (true, true);
    let mut events = caller.events(COORDINATOR);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    caller.coordinators.put(standby.clone()).publish();
    eventually(LIMIT, async || {
        let peers = caller.manager.clients(&role("caller"), &role(COORDINATOR)).expect("a declared role");
        holds(peers.iter().any(|peer| peer.standby && peer.link == PeerLink::Ready && !peer.is_callable()), peers)
    })
    .await;
    assert_eq!(refusal(unary(caller.coordinator(), "Metadata").await).reason, Reason::NoSuchPeer);
    let there = WaitPolicy::AtLeast { count: 1, timeout: SOON };
    assert!(!caller.manager.wait_ready(&role("caller"), &role(COORDINATOR), there).await, "it does not count");
    host.code.send_replace(StateCode::Healthy);
    caller.coordinators.activate(4, host.address).publish();
    let told = next(&mut events).await;
    assert!(matches!(&told, PeerChange::Updated(peer) if !peer.is_callable()), "it is asked first: {told:?}");
    let told = next(&mut events).await;
    assert!(matches!(&told, PeerChange::Online(peer) if !peer.standby), "told of when it is active: {told:?}");
    ask(caller.coordinator(), "Metadata", waiting(LIMIT)).await.expect("the new holder answers");
    assert_eq!(caller.dials(COORDINATOR, 4), 1, "a takeover dials nothing");
}

#[tokio::test]
async fn a_standby_is_not_called_where_any_peer_would_do() {
    let (host, standby) = (FakeHost::start(7, NODE), FakeHost::start(8, NODE));
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut waits = caller.nodes.entry(8, standby.address);
    (waits.standby, waits.record.exclusive) = (true, true);
    caller.nodes.put(waits).publish();
    caller.link(8, PeerLink::Ready).await;
    for _ in 0..4 {
        let seen = unary(caller.any_node(), "Metadata").await.expect("an answer");
        assert!(seen.contains(r#""serverid": "7""#), "{seen}");
    }
}

#[tokio::test]
async fn a_reregistration_without_a_gap_cuts_nothing() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let mut stream = drip(caller.node(7)).await;
    caller.nodes.register(7, host.address);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(_)));
    unary(caller.node(7), "Metadata").await.expect("an answer");
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "the stream goes on");
    assert_eq!(host.asked.load(Ordering::SeqCst), 1, "nothing was dialled");
}

#[tokio::test]
async fn a_peer_that_moves_is_called_at_its_new_address() {
    let (host, moved) = (FakeHost::start(7, NODE), FakeHost::start(7, NODE));
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut stream = drip(caller.node(7)).await;
    caller.nodes.register(7, moved.address);
    eventually(LIMIT, async || holds(moved.asked.load(Ordering::SeqCst) == 1, "it is not dialled")).await;
    caller.link(7, PeerLink::Ready).await;
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    held(&moved, 1).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "the stream goes on");
    running.abort();
}

#[tokio::test]
async fn a_younger_node_at_the_same_address_replaces_the_one_that_went() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    let younger = caller.nodes.entry(8, host.address);
    caller.nodes.delete(7).put(younger).publish();
    let PeerChange::Replaced { old, new } = next(&mut events).await else { panic!("not replaced") };
    assert_eq!((old.server_id, new.server_id), (ServerId(7), ServerId(8)));
}

#[tokio::test]
async fn a_reregistration_with_a_gap_cuts_even_where_the_gap_was_not_seen() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    held(&host, 1).await;
    let again = caller.nodes.entry(7, host.address);
    caller.nodes.delete(7).put(again).publish();
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::SessionGone);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Offline { reason: Reason::SessionGone, .. }));
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(_)));
    unary(caller.node(7), "Metadata").await.expect("the client works again");
}

#[tokio::test]
async fn a_killed_peer_breaks_the_link_and_comes_back_on_another_port_by_itself() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    let mut stream = drip(caller.node(7)).await;
    held(&host, 2).await;
    host.kill();
    let lost = refusal(running.await.expect("no panic"));
    assert_eq!((lost.reason, lost.executed), (Reason::LinkLost, Executed::Unknown));
    assert_eq!(refusal(stream.message().await).reason, Reason::LinkLost);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    let PeerChange::Offline { peer, reason, .. } = next(&mut events).await else { panic!("not offline") };
    assert_eq!((peer.session, reason), (PeerSession::Live, Reason::LinkLost));

    let other = FakeHost::start(9, NODE);
    caller.nodes.delete(7).publish();
    caller.nodes.register(9, other.address);
    ask(caller.any_node(), "Metadata", waiting(LIMIT)).await.expect("the new one answers");
}

#[tokio::test]
async fn a_link_that_breaks_is_dialled_again_while_the_session_lives() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let address = host.address.to_string();
    host.kill();
    let _again = FakeHost::start_with(7, NODE, &address, |_| {});
    eventually(LIMIT, async || ask(caller.node(7), "Metadata", waiting(LIMIT)).await).await;
}

#[tokio::test]
async fn after_goaway_running_calls_go_on_and_new_ones_take_the_new_link() {
    let mut host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let stream = drip(caller.node(7)).await;
    host.go_away();
    let address = host.address.to_string();
    // Its listener goes at once, so that another one can be there for the new link.
    let again = FakeHost::start_with(7, NODE, &address, |_| {});
    eventually(LIMIT, async || {
        let asked = again.asked.load(Ordering::SeqCst);
        holds(asked == 1, asked)
    })
    .await;
    caller.ready(1).await;
    unary(caller.node(7), "Metadata").await.expect("an answer over the new link");
    assert_eq!(host.held.load(Ordering::SeqCst), 1, "the stream runs on the old link");
    drop(stream);
    held(&host, 0).await;
}

#[tokio::test]
async fn a_stopping_peer_is_called_by_its_address_and_spared_by_its_role() {
    let (leaving, staying) = (FakeHost::start(7, NODE), FakeHost::start(8, NODE));
    let mut caller = Caller::with_ready_node(quick(), &leaving).await;
    let mut stream = drip(caller.node(7)).await;
    caller.nodes.register(8, staying.address);
    caller.ready(2).await;
    let mut events = caller.events(NODE);
    let mut stopping = caller.nodes.entry(7, leaving.address);
    stopping.record.stopping = true;
    stopping.registration.create_revision = 2;
    caller.nodes.put(stopping).publish();
    while !matches!(next(&mut events).await, PeerChange::Stopping(_)) {}
    unary(caller.node(7), "Metadata").await.expect("the peer itself has not refused");
    for _ in 0..4 {
        let seen = unary(caller.any_node(), "Metadata").await.expect("an answer");
        assert!(seen.contains(r#""serverid": "8""#), "{seen}");
    }
    // What still runs there when its session goes is not cut, and what is new is refused.
    caller.nodes.delete(7).publish();
    eventually(LIMIT, async || {
        let answer = unary(caller.node(7), "Metadata").await;
        holds(answer.is_err(), answer)
    })
    .await;
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "the stream goes on");
}

#[tokio::test]
async fn calls_that_drain_are_cut_at_the_limit() {
    let host = FakeHost::start(7, NODE);
    let config = ConnectionsConfig { drain_limit: Duration::from_millis(100), ..quick() };
    let mut caller = Caller::with_ready_node(config, &host).await;
    let mut stream = drip(caller.node(7)).await;
    let mut stopping = caller.nodes.entry(7, host.address);
    stopping.record.stopping = true;
    caller.nodes.put(stopping).publish();
    eventually(LIMIT, async || {
        let peers = caller.manager.clients(&role("caller"), &role(NODE)).expect("a declared role");
        holds(peers.iter().any(|peer| peer.session == PeerSession::Stopping), peers)
    })
    .await;
    caller.nodes.delete(7).publish();
    let cut = tokio::time::timeout(LIMIT, stream.message()).await.expect("cut at the limit");
    assert_eq!(refusal(cut).reason, Reason::SessionGone);
}

#[tokio::test]
async fn nodes_are_called_in_turn() {
    let hosts: Vec<_> = (1..=3).map(|id| FakeHost::start(id, NODE)).collect();
    let mut caller = Caller::with(quick());
    for (id, host) in (1..).zip(&hosts) {
        caller.nodes.register(id, host.address);
    }
    caller.ready(3).await;
    let mut seen = [0; 3];
    for _ in 0..9 {
        let answer = unary(caller.any_node(), "Metadata").await.expect("an answer");
        let id = (1..=3).find(|id| answer.contains(&format!(r#""serverid": "{id}""#))).expect("one of them");
        seen[id - 1] += 1;
    }
    assert_eq!(seen, [3, 3, 3]);
}
