//! Links through which nothing passes any more, and nobody knows.

use tests::proxy::Proxy;

use super::*;

#[tokio::test]
async fn a_ready_link_that_is_black_holed_is_lost_within_its_keepalive() {
    let defaults = ConnectionsConfig::default();
    assert!(defaults.keepalive_interval + defaults.keepalive_timeout < Duration::from_secs(10), "in seconds");
    let host = FakeHost::start(7, NODE);
    let proxy = Proxy::to(host.address);
    let (keepalive_interval, keepalive_timeout) = (Duration::from_millis(300), Duration::from_millis(200));
    let mut caller = Caller::with(ConnectionsConfig { keepalive_interval, keepalive_timeout, ..quick() });
    caller.nodes.register(7, proxy.address());
    caller.ready(1).await;
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    held(&host, 1).await;
    proxy.black_hole();
    let begin = Instant::now();
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::LinkLost);
    assert!(begin.elapsed() < keepalive_interval + keepalive_timeout + SOON, "{:?}", begin.elapsed());
    // Dials into the hole end by their own deadline.
    caller.link(7, PeerLink::Retrying).await;
    proxy.heal();
    caller.ready(1).await;
}

#[tokio::test]
async fn a_link_without_calls_is_watched_as_well_and_its_end_is_counted() {
    let host = FakeHost::start(7, NODE);
    let proxy = Proxy::to(host.address);
    let (keepalive_interval, keepalive_timeout) = (Duration::from_millis(300), Duration::from_millis(200));
    let mut caller = Caller::with(ConnectionsConfig { keepalive_interval, keepalive_timeout, ..quick() });
    caller.nodes.register(7, proxy.address());
    caller.ready(1).await;
    proxy.black_hole();
    caller.link(7, PeerLink::Retrying).await;
    let links = caller.manager.measured().of(&role(NODE));
    let ended: Vec<_> = links.links.disconnections().filter(|(_, count)| *count > 0).collect();
    assert_eq!(ended, [("connection timed out", 1)]);
}
