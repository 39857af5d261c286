//! A peer is dialled, proves itself, is given up and comes back.

use super::*;

#[tokio::test]
async fn a_ready_peer_is_called_and_told_whom_the_call_means() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let seen = ask(caller.node(7), "Metadata", waiting(SOON)).await.expect("an answer");
    for pair in [r#""cluster": "fakes""#, r#""serverid": "7""#, r#""componenthost-role": "worker""#] {
        assert!(seen.contains(pair), "{pair} in {seen}");
    }
    assert!(!seen.contains("componenthost-wait-ms"), "{seen}");
}

#[tokio::test]
async fn an_undeclared_role_is_refused() {
    let caller = Caller::new();
    let client = caller.manager.client(&role("caller"), Target::Role(role("stranger")));
    let status = unary(client, "Metadata").await.expect_err("a refusal");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(refusal(Err::<(), _>(status)).reason, Reason::NotDeclared);
    assert!(caller.manager.clients(&role("caller"), &role("stranger")).is_err());
}

#[tokio::test]
async fn a_role_without_peers_is_refused_at_once() {
    let caller = Caller::new();
    for client in [caller.node(7), caller.any_node(), caller.coordinator()] {
        let begin = Instant::now();
        let refused = refusal(unary(client.clone(), "Metadata").await);
        assert!(begin.elapsed() < SOON);
        assert_eq!((refused.reason, refused.executed), (Reason::NoSuchPeer, Executed::No));
        assert_eq!(refused.details[key::REFUSED_BY], "caller-1");
        assert_eq!(refused.details[key::TARGET], client.target().to_string());
        assert_eq!(refused.details[key::TABLE_REVISION], "1");
        assert!(refused.details.contains_key(key::TABLE_AGE_MS));
    }
}

#[tokio::test]
async fn a_peer_that_refuses_connections_is_retried_then_given_up_and_woken_by_a_put() {
    let mut caller = Caller::with(quick());
    let mut events = caller.events(NODE);
    let address = closed_port();
    caller.nodes.register(7, address);
    caller.link(7, PeerLink::Retrying).await;
    let retried = refusal(unary(caller.node(7), "Metadata").await);
    assert_eq!((retried.reason, retried.executed), (Reason::ConnectFailed, Executed::No));
    for key in [key::SERVER_ID, key::SESSION, key::LINK, key::SINCE_MS, key::TRIES, key::LAST_ERROR] {
        assert!(retried.details.contains_key(key), "{key} in {retried:?}");
    }
    assert_eq!((&*retried.details[key::SESSION], &*retried.details[key::LINK]), ("live", "retrying"));

    caller.link(7, PeerLink::GivenUp).await;
    let given_up = refusal(unary(caller.node(7), "Metadata").await);
    assert_eq!(given_up.reason, Reason::GaveUp);
    assert_eq!(given_up.details[key::TRIES], "3");
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::GivenUp { .. }));

    let _host = FakeHost::start_with(7, NODE, &address.to_string(), |_| {});
    let again = caller.nodes.entry(7, address);
    caller.nodes.put(again).publish();
    caller.ready(1).await;
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(peer) if peer.is_callable()));
}

#[tokio::test]
async fn a_peer_that_was_given_up_is_probed() {
    let config = ConnectionsConfig { probe_interval: Duration::from_millis(100), ..quick() };
    let mut caller = Caller::with(config);
    let address = closed_port();
    caller.nodes.register(7, address);
    caller.link(7, PeerLink::GivenUp).await;
    let _host = FakeHost::start_with(7, NODE, &address.to_string(), |_| {});
    caller.ready(1).await;
}

#[tokio::test]
async fn the_first_dial_under_way_is_said() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut caller = Caller::new();
    caller.nodes.register(7, silent.local_addr().expect("its address"));
    caller.link(7, PeerLink::Connecting).await;
    assert_eq!(refusal(unary(caller.node(7), "Metadata").await).reason, Reason::Connecting);
}

#[tokio::test]
async fn a_peer_that_is_initializing_spends_no_try() {
    let host = FakeHost::start(7, NODE);
    host.code.send_replace(StateCode::Initializing);
    let mut caller = Caller::with(quick());
    caller.nodes.register(7, host.address);
    // Longer than all of its windows: it is asked again and again, and never given up.
    let windows = Instant::now() + quick().window * (quick().windows + 1);
    eventually(LIMIT, async || {
        let view = caller.manager.view();
        let peer = view.iter().find(|of| of.role == role(NODE)).and_then(|of| of.peers.first());
        let initializing = peer.is_some_and(|peer| peer.peer_says.as_deref() == Some("Initializing"));
        holds(initializing && Instant::now() > windows, peer.cloned())
    })
    .await;
    let refused = refusal(unary(caller.node(7), "Metadata").await);
    assert_eq!(refused.reason, Reason::Connecting);
    assert_eq!(refused.details[key::STATE_CODE], "Initializing");
    host.code.send_replace(StateCode::Healthy);
    caller.ready(1).await;
}

#[tokio::test]
async fn somebody_else_at_the_address_ends_the_tries_until_the_key_changes() {
    for change in [
        (|says: &mut fake::Says| says.server_id = 8) as fn(&mut fake::Says),
        |says| says.cluster = "others".to_owned(),
        |says| says.role = "stranger".to_owned(),
    ] {
        let config = ConnectionsConfig { probe_interval: Duration::from_millis(50), ..quick() };
        let mut caller = Caller::with(config);
        let host = FakeHost::start_with(7, NODE, "127.0.0.1:0", change);
        caller.nodes.register(7, host.address);
        caller.link(7, PeerLink::GivenUp).await;
        // Not even a call that would wait does.
        let begin = Instant::now();
        let refused = refusal(ask(caller.node(7), "Metadata", waiting(LIMIT)).await);
        assert!(begin.elapsed() < SOON);
        assert_eq!(refused.reason, Reason::IdentityMismatch);
        assert_eq!(host.asked.load(Ordering::SeqCst), 1);

        let right = FakeHost::start(7, NODE);
        caller.nodes.register(7, right.address);
        caller.ready(1).await;
        assert_eq!(host.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_foreign_server_is_ready_but_unverified() {
    let host = FakeHost::start_with(7, NODE, "127.0.0.1:0", |says| says.foreign = true);
    let caller = Caller::with_ready_node(quick(), &host).await;
    unary(caller.node(7), "Metadata").await.expect("an answer");
    let view = caller.manager.view();
    let peer = view.iter().find(|of| of.role == role(NODE)).and_then(|of| of.peers.first());
    assert!(peer.is_some_and(|peer| peer.unverified), "{view:?}");
}
