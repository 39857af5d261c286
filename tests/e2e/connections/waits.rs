//! Calls that wait, that are ended, and that are to slow nobody down.

use super::*;

#[tokio::test]
async fn silent_peers_slow_nobody_down() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let full = full_backlog().await;
    // One dial at a time: the silent ones must not hold that one place.
    let config = ConnectionsConfig { max_parallel_dials: 1, connect_timeout: LIMIT, window: LIMIT, ..quick() };
    let mut caller = Caller::with(config);
    let host = FakeHost::start(9, NODE);
    for (id, address) in [(1, silent.local_addr().expect("its address")), (2, full.address), (9, host.address)] {
        let entry = caller.nodes.entry(id, address);
        caller.nodes.put(entry);
    }
    let begin = Instant::now();
    caller.nodes.publish();
    ask(caller.node(9), "Metadata", waiting(LIMIT)).await.expect("the peer that lives answers");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    for id in [1, 2] {
        let begin = Instant::now();
        assert_eq!(refusal(unary(caller.node(id), "Metadata").await).reason, Reason::Connecting);
        assert!(begin.elapsed() < Duration::from_millis(250));
    }
}

struct FullBacklog {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<()>>,
}

/// A listener that never accepts, and whose queue is full: connecting to it gets no answer.
async fn full_backlog() -> FullBacklog {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let waiting = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let _stream = tokio::net::TcpStream::connect(address).await;
                std::future::pending::<()>().await;
            })
        })
        .collect();
    eventually(LIMIT, async || {
        let connected = tokio::time::timeout(Duration::from_millis(50), tokio::net::TcpStream::connect(address)).await;
        holds(connected.is_err(), "its queue still takes connections")
    })
    .await;
    FullBacklog { address, _listener: listener, _waiting: waiting }
}

#[tokio::test]
async fn a_call_that_waits_is_woken_the_moment_its_peer_is_ready() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with(quick());
    let by_role = tokio::spawn(ask(caller.any_node(), "Metadata", waiting(LIMIT)));
    let by_id = tokio::spawn(ask(caller.node(7), "Metadata", waiting(LIMIT)));
    tokio::task::yield_now().await;
    let begin = Instant::now();
    caller.nodes.register(7, host.address);
    by_role.await.expect("no panic").expect("an answer");
    by_id.await.expect("no panic").expect("an answer");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_wait_has_a_cap_and_says_what_it_waited_for() {
    let config = ConnectionsConfig { wait_cap: Duration::from_millis(150), ..ConnectionsConfig::default() };
    let mut caller = Caller::with(config);
    caller.nodes.register(7, closed_port());
    caller.link(7, PeerLink::Retrying).await;
    let begin = Instant::now();
    let expired = refusal(ask(caller.node(7), "Metadata", waiting(LIMIT)).await);
    assert!((Duration::from_millis(150)..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!((expired.reason, expired.executed), (Reason::WaitExpired, Executed::No));
    assert!(expired.details.contains_key(key::LAST_ERROR), "{expired:?}");
    assert!(expired.message.contains("CONNECT_FAILED"), "{expired:?}");
}

#[tokio::test]
async fn a_dependency_may_make_its_calls_wait() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with(quick());
    let patient = Dependency::nodes(NODE).call_wait(LIMIT);
    caller.manager.add_dependency(&role("patient"), patient, caller.nodes.watch());
    let client = caller.manager.client(&role("patient"), Target::Role(role(NODE)));
    let waits = tokio::spawn(unary(client, "Metadata"));
    caller.nodes.register(7, host.address);
    waits.await.expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_deadline_ends_a_wait_a_call_and_a_stream() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let timeout = Duration::from_millis(150);
    let limited = |mut request: Request<String>| {
        request.set_timeout(timeout);
        request
    };
    for (client, method) in [(caller.node(7), "Hold"), (caller.coordinator(), "Metadata")] {
        let begin = Instant::now();
        let status = ask(client, method, limited(waiting(LIMIT))).await.expect_err("too late");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!((timeout..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    }
    let mut grpc = grpc(caller.node(7));
    let request = limited(Request::new(String::new()));
    let answer = grpc.server_streaming(request, path("Drip"), Codec::default()).await.expect("the stream begins");
    let mut stream = answer.into_inner();
    assert_eq!(stream.message().await.expect("a message"), Some("one".to_owned()));
    assert_eq!(stream.message().await.expect_err("too late").code(), Code::DeadlineExceeded);
    held(&host, 0).await;
}

#[tokio::test]
async fn stop_ends_everything_with_cancelled() {
    for (reason, stop) in [(Reason::HostStopping, 0), (Reason::DependencyRemoved, 1), (Reason::ClientStopped, 2)] {
        let host = FakeHost::start(7, NODE);
        let caller = Caller::with_ready_node(quick(), &host).await;
        let client = caller.node(7);
        let absent = caller.any_node();
        let running = tokio::spawn(unary(client.clone(), "Hold"));
        let mut stream = drip(client.clone()).await;
        let waits = tokio::spawn(ask(caller.coordinator(), "Metadata", waiting(LIMIT)));
        held(&host, 2).await;
        let begin = Instant::now();
        match stop {
            0 => caller.manager.stop().await,
            1 => caller.manager.remove_dependency(&role("caller"), &role(NODE)).await,
            _ => client.stop(),
        }
        let status = running.await.expect("no panic").expect_err("ended");
        assert_eq!(status.code(), Code::Cancelled);
        let cut = refusal(Err::<(), _>(status));
        assert_eq!((cut.reason, cut.executed), (reason, Executed::Unknown));
        assert_eq!(refusal(stream.message().await).reason, reason);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        let later = refusal(unary(client, "Metadata").await);
        assert_eq!(later.reason, if stop == 1 { Reason::NotDeclared } else { reason });
        match stop {
            0 => assert_eq!(refusal(waits.await.expect("no panic")).reason, Reason::HostStopping),
            1 => assert_eq!(refusal(unary(absent, "Metadata").await).reason, Reason::NotDeclared),
            _ => drop(unary(absent, "Metadata").await.expect("another client goes on")),
        }
        held(&host, 0).await;
    }
}

#[tokio::test]
async fn links_are_shared_by_the_callers_of_a_host_and_kept_for_the_last() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    caller.manager.add_dependency(&role("other"), Dependency::nodes(NODE), caller.nodes.watch());
    let client = caller.manager.client(&role("other"), Target::Role(role(NODE)));
    unary(client.clone(), "Metadata").await.expect("an answer");
    caller.manager.remove_dependency(&role("caller"), &role(NODE)).await;
    unary(client, "Metadata").await.expect("the other one still depends on it");
    assert_eq!(host.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_slow_listener_gets_the_table_in_place_of_what_it_missed() {
    let mut caller = Caller::with(quick());
    let mut slow = caller.events(NODE);
    assert!(matches!(next(&mut slow).await, PeerChange::Table(_)));
    let mut quick = caller.events(NODE);
    assert!(matches!(next(&mut quick).await, PeerChange::Table(_)));
    let mut entry = caller.nodes.entry(7, closed_port());
    caller.nodes.put(entry.clone()).publish();
    caller.link(7, PeerLink::Retrying).await;
    for version in 1..=600 {
        entry.record.version = format!("1.0.{version}");
        caller.nodes.put(entry.clone()).publish();
        while !matches!(next(&mut quick).await, PeerChange::Updated(peer) if peer.version == format!("1.0.{version}")) {
        }
    }
    let PeerChange::Table(peers) = next(&mut slow).await else { panic!("not a table") };
    assert_eq!(peers.iter().map(|peer| peer.version.as_str()).collect::<Vec<_>>(), ["1.0.600"]);
}

#[tokio::test]
async fn all_kinds_of_calls_go_through_and_64_mib_too() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(ConnectionsConfig::default(), &host).await;
    let mut client = grpc(caller.node(7));
    let chunk = "x".repeat(1 << 20);
    let chunks = || Request::new(tokio_stream::iter(std::iter::repeat_n("x".repeat(1 << 20), 64)));
    let counted = client.client_streaming(chunks(), path("Count"), Codec::default()).await.expect("an answer");
    let counted: usize = counted.into_inner().parse().expect("a number");
    assert!(counted > 64 << 20, "{counted}");

    let answer = client.streaming(chunks(), path("Echo"), Codec::default()).await.expect("the stream begins");
    let mut echoed = answer.into_inner();
    for _ in 0..64 {
        assert_eq!(echoed.message().await.expect("a message").as_ref().map(String::len), Some(chunk.len()));
    }
    assert_eq!(echoed.message().await.expect("the end"), None);
    let whole = "y".repeat(64 << 20);
    let answer = ask(caller.node(7), "Echo", Request::new(whole)).await.expect("an answer");
    assert_eq!(answer.len(), 64 << 20);
}

#[tokio::test]
async fn required_dependencies_that_cannot_be_called_are_named() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let missing = caller.manager.missing(&role("caller"));
    assert_eq!(
        missing.iter().map(|it| (it.role.as_str(), it.reason)).collect::<Vec<_>>(),
        [(COORDINATOR, Reason::NoSuchPeer)]
    );
}
