//! A peer that says of itself that it does not serve: its link is there, and it is not called before it says so.

use super::*;

#[tokio::test]
async fn a_peer_that_refuses_is_asked_over_its_link_until_it_serves() {
    for (reason, code, says) in [
        (Reason::Fenced, "Healthy", "fenced"),
        (Reason::NotHealthy, "Abnormal", "Abnormal"),
        (Reason::Quarantined, "Abnormal", "Abnormal, in quarantine"),
        (Reason::Standby, "StandBy", "StandBy"),
    ] {
        let host = FakeHost::start(7, NODE);
        let caller = Caller::with_ready_node(ConnectionsConfig::default(), &host).await;
        let mut events = caller.events(NODE);
        assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
        let mut stream = drip(caller.node(7)).await;
        host.refuse.send_replace(Some(reason));
        let own = refusal(unary(caller.node(7), "Metadata").await);
        assert_eq!((own.reason, &*own.details[key::REFUSED_BY]), (reason, "worker-7"));
        let PeerChange::Offline { peer, reason: told, .. } = next(&mut events).await else { panic!("not offline") };
        assert_eq!((peer.session, peer.link, told), (PeerSession::Live, PeerLink::Connecting, reason));
        // Nobody is sent there in vain any more, and everybody is told why.
        let refused = refusal(unary(caller.node(7), "Metadata").await);
        assert_eq!((refused.reason, refused.executed), (reason, Executed::No));
        assert_eq!((&*refused.details[key::REFUSED_BY], &*refused.details[key::STATE_CODE]), ("caller-1", code));
        assert_eq!(host.refused.load(Ordering::SeqCst), 1);
        let missing = caller.manager.missing(&role("caller"));
        assert!(missing.iter().any(|it| it.role == role(NODE) && it.reason == reason), "{missing:?}");
        let seen = caller.peer(NODE, 7).and_then(|peer| peer.peer_says);
        // Its own words say no more than its state.
        assert!(seen.as_deref().is_some_and(|seen| says.starts_with(seen)), "{seen:?}");

        let begin = Instant::now();
        let waits = tokio::spawn(ask(caller.node(7), "Metadata", waiting(LIMIT)));
        host.refuse.send_replace(None);
        waits.await.expect("no panic").expect("it serves again");
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert!(matches!(next(&mut events).await, PeerChange::Online(_)));
        assert_eq!(caller.dials(NODE, 7), 1, "the link is the same");
        assert!(tokio::time::timeout(Duration::from_millis(50), stream.message()).await.is_err(), "so are its calls");
    }
}

#[tokio::test]
async fn a_peer_that_is_fenced_when_it_is_dialled_is_not_ready() {
    let host = FakeHost::start(7, NODE);
    host.refuse.send_replace(Some(Reason::Fenced));
    let mut caller = Caller::with(quick());
    caller.nodes.register(7, host.address);
    eventually(LIMIT, async || {
        let peer = caller.peer(NODE, 7);
        holds(peer.as_ref().is_some_and(|peer| peer.peer_says.as_deref() == Some("fenced")), peer)
    })
    .await;
    assert_eq!(refusal(unary(caller.node(7), "Metadata").await).reason, Reason::Fenced);
    host.refuse.send_replace(None);
    caller.ready(1).await;
    unary(caller.node(7), "Metadata").await.expect("an answer");
    assert_eq!(host.refused.load(Ordering::SeqCst), 0, "no call was sent in vain");
}

#[tokio::test]
async fn a_refusal_that_the_peer_passes_on_says_nothing_of_it() {
    let host = FakeHost::start_with(7, NODE, "127.0.0.1:0", |says| says.refuses_as = Some("elsewhere-9".to_owned()));
    let caller = Caller::with_ready_node(quick(), &host).await;
    host.refuse.send_replace(Some(Reason::Fenced));
    for _ in 0..3 {
        assert_eq!(refusal(unary(caller.node(7), "Metadata").await).reason, Reason::Fenced);
    }
    assert_eq!(host.refused.load(Ordering::SeqCst), 3, "it is called all the same, each time once");
}

#[tokio::test]
async fn a_peer_that_refuses_and_breaks_is_dialled_again() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    host.refuse.send_replace(Some(Reason::Fenced));
    assert_eq!(refusal(unary(caller.node(7), "Metadata").await).reason, Reason::Fenced);
    caller.link(7, PeerLink::Connecting).await;
    let address = host.address.to_string();
    host.kill();
    let _again = FakeHost::start_with(7, NODE, &address, |_| {});
    ask(caller.node(7), "Metadata", waiting(LIMIT)).await.expect("an answer");
}

#[tokio::test]
async fn a_peer_that_refuses_and_says_that_it_serves_is_not_pestered() {
    let host = FakeHost::start_with(7, NODE, "127.0.0.1:0", |says| says.claims_to_serve = true);
    let config = ConnectionsConfig { backoff_min: Duration::from_millis(100), ..quick() };
    let caller = Caller::with_ready_node(config, &host).await;
    host.refuse.send_replace(Some(Reason::Fenced));
    // Each time that it says so the call goes to it again.
    let expired = refusal(ask(caller.node(7), "Metadata", waiting(Duration::from_millis(500))).await);
    assert_eq!(expired.reason, Reason::WaitExpired);
    // Once at the dial, once after the first refusal, and then at each backoff.
    let asked = host.asked.load(Ordering::SeqCst);
    assert!((3..=8).contains(&asked), "{asked}");
}
