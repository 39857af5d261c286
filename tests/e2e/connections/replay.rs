//! A call that nobody has executed is sent again: to another peer at once, or when something has changed where it waits.

use super::*;

/// Which of the fakes has answered.
fn answered(seen: &str, ids: std::ops::RangeInclusive<i64>) -> i64 {
    ids.into_iter().find(|id| seen.contains(&format!(r#""serverid": "{id}""#))).unwrap_or_else(|| panic!("{seen}"))
}

/// A caller with so many nodes that are ready, from id 1 on.
async fn nodes(count: i64) -> (Caller, Vec<FakeHost>) {
    let hosts: Vec<_> = (1..=count).map(|id| FakeHost::start(id, NODE)).collect();
    let mut caller = Caller::with(ConnectionsConfig::default());
    for (id, host) in (1..).zip(&hosts) {
        caller.nodes.register(id, host.address);
    }
    caller.ready(hosts.len()).await;
    (caller, hosts)
}

#[tokio::test]
async fn a_refused_call_goes_to_another_peer_and_its_body_with_it() {
    let (caller, hosts) = nodes(2).await;
    hosts[0].refuse.send_replace(Some(Reason::SessionStopping));
    for _ in 0..4 {
        let seen = unary(caller.any_node(), "Metadata").await.expect("the other one answers");
        assert_eq!(answered(&seen, 1..=2), 2);
        let echoed = ask(caller.any_node(), "Echo", Request::new("all of it".to_owned())).await;
        assert_eq!(echoed.expect("the other one answers"), "all of it");
        // A stream that has begun: its first messages have been sent to the one that refused.
        let messages = tokio_stream::iter(["one", "two", "three"].map(str::to_owned));
        let answer = grpc(caller.any_node()).streaming(Request::new(messages), path("Echo"), Codec::default()).await;
        let mut echoed = answer.expect("the other one answers").into_inner();
        for message in ["one", "two", "three"] {
            assert_eq!(echoed.message().await.expect("a message").as_deref(), Some(message));
        }
        assert_eq!(echoed.message().await.expect("the end"), None);
    }
    assert!(hosts[0].refused.load(Ordering::SeqCst) >= 4, "it was its turn now and then");
}

#[tokio::test]
async fn without_waiting_it_is_sent_once_more_and_not_to_the_one_that_refused() {
    let (caller, hosts) = nodes(3).await;
    let refused = || hosts.iter().map(|host| host.refused.load(Ordering::SeqCst)).sum::<usize>();
    for host in &hosts {
        host.refuse.send_replace(Some(Reason::SessionStopping));
    }
    let own = refusal(unary(caller.any_node(), "Metadata").await);
    assert_eq!((own.reason, own.executed, refused()), (Reason::SessionStopping, Executed::No, 2));
    // A call that means one peer is for no other.
    assert_eq!(refusal(unary(caller.node(1), "Metadata").await).reason, Reason::SessionStopping);
    assert_eq!(refused(), 3);
    // Nor does waiting help: this id does not come back.
    let begin = Instant::now();
    let gone = refusal(ask(caller.node(1), "Metadata", waiting(LIMIT)).await);
    assert_eq!((gone.reason, refused()), (Reason::SessionStopping, 4));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_call_that_waits_tries_all_and_sleeps_until_something_changes() {
    let (mut caller, hosts) = nodes(2).await;
    for host in &hosts {
        host.refuse.send_replace(Some(Reason::SessionStopping));
    }
    let waits = tokio::spawn(ask(caller.any_node(), "Echo", {
        let mut request = waiting(LIMIT);
        "patience".clone_into(request.get_mut());
        request
    }));
    let refused = || hosts.iter().map(|host| host.refused.load(Ordering::SeqCst)).sum::<usize>();
    eventually(LIMIT, async || holds(refused() == 2, refused())).await;
    let third = FakeHost::start(3, NODE);
    caller.nodes.register(3, third.address);
    assert_eq!(waits.await.expect("no panic").expect("the third one answers"), "patience");
    assert_eq!(refused(), 2, "nobody was asked twice");
}

#[tokio::test]
async fn a_wait_for_a_peer_that_refuses_has_its_limit_and_tells_its_words() {
    let (caller, hosts) = nodes(1).await;
    hosts[0].refuse.send_replace(Some(Reason::Fenced));
    let limit = Duration::from_millis(150);
    let begin = Instant::now();
    let expired = refusal(ask(caller.any_node(), "Metadata", waiting(limit)).await);
    assert!((limit..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!((expired.reason, expired.executed), (Reason::WaitExpired, Executed::No));
    assert!(expired.message.contains("FENCED"), "{expired:?}");
    assert_eq!(hosts[0].refused.load(Ordering::SeqCst), 1, "it is not asked before it says that it serves");
}

#[tokio::test]
async fn what_another_time_or_peer_cannot_help_is_not_sent_again() {
    for reason in [Reason::IdentityMismatch, Reason::NotDeclared, Reason::TlsFailed] {
        let (caller, hosts) = nodes(2).await;
        for host in &hosts {
            host.refuse.send_replace(Some(reason));
        }
        assert_eq!(refusal(ask(caller.any_node(), "Metadata", waiting(SOON)).await).reason, reason);
        let refused: usize = hosts.iter().map(|host| host.refused.load(Ordering::SeqCst)).sum();
        assert_eq!(refused, 1, "{reason}");
    }
}

#[tokio::test]
async fn a_refusal_is_believed_only_of_the_peer_that_was_called() {
    // The peer has passed on the refusal of another: its handler has seen the call.
    let passes_on = |says: &mut fake::Says| says.refuses_as = Some("elsewhere-9".to_owned());
    let hosts = [1, 2].map(|id| FakeHost::start_with(id, NODE, "127.0.0.1:0", passes_on));
    let mut caller = Caller::with(quick());
    for (id, host) in (1..).zip(&hosts) {
        host.refuse.send_replace(None);
        caller.nodes.register(id, host.address);
    }
    caller.ready(2).await;
    for host in &hosts {
        host.refuse.send_replace(Some(Reason::SessionStopping));
    }
    assert_eq!(refusal(ask(caller.any_node(), "Metadata", waiting(SOON)).await).reason, Reason::SessionStopping);
    let refused: usize = hosts.iter().map(|host| host.refused.load(Ordering::SeqCst)).sum();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn what_a_handler_may_have_seen_is_not_sent_again() {
    let hosts = [1, 2].map(|id| FakeHost::start_with(id, NODE, "127.0.0.1:0", |says| says.may_have_executed = true));
    let mut caller = Caller::with(quick());
    for (id, host) in (1..).zip(&hosts) {
        caller.nodes.register(id, host.address);
    }
    caller.ready(2).await;
    for host in &hosts {
        host.refuse.send_replace(Some(Reason::SwapDrained));
    }
    let drained = refusal(ask(caller.any_node(), "Metadata", waiting(SOON)).await);
    assert_eq!((drained.reason, drained.executed), (Reason::SwapDrained, Executed::Unknown));
    let refused: usize = hosts.iter().map(|host| host.refused.load(Ordering::SeqCst)).sum();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_call_whose_link_broke_is_not_sent_again() {
    let (caller, mut hosts) = nodes(2).await;
    let running = [tokio::spawn(unary(caller.any_node(), "Hold")), tokio::spawn(unary(caller.any_node(), "Hold"))];
    for host in &hosts {
        held(host, 1).await;
    }
    let stays = hosts.pop().expect("two of them");
    hosts.remove(0).kill();
    eventually(LIMIT, async || holds(running.iter().any(|call| call.is_finished()), "they run")).await;
    for call in running {
        if call.is_finished() {
            let lost = refusal(call.await.expect("no panic"));
            assert_eq!((lost.reason, lost.executed), (Reason::LinkLost, Executed::Unknown));
        }
    }
    held(&stays, 1).await;
}
