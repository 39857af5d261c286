//! What is counted of calls that wait, and of dials that fail.

use super::*;

#[tokio::test]
async fn calls_that_wait_are_counted_while_they_do() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with(quick());
    let calls = caller.manager.measured().of(&role(NODE)).calls.clone();
    let waits: Vec<_> = (0..3).map(|_| tokio::spawn(ask(caller.any_node(), "Metadata", waiting(LIMIT)))).collect();
    eventually(LIMIT, async || holds(calls.waiting() == 3, calls.waiting())).await;
    caller.nodes.register(7, host.address);
    for call in waits {
        call.await.expect("no panic").expect("an answer");
    }
    assert_eq!((calls.waiting(), calls.running()), (0, 0));
}

#[tokio::test]
async fn each_dial_that_fails_is_counted() {
    let mut caller = Caller::with(quick());
    caller.nodes.register(7, closed_port());
    caller.link(7, PeerLink::GivenUp).await;
    let measured = caller.manager.measured().of(&role(NODE));
    let (failed, succeeded) = (measured.links.attempts_failed(), measured.links.attempts_succeeded());
    assert_eq!((failed, succeeded), (caller.dials(NODE, 7), 0));
}
