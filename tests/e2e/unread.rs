//! A caller that does not read what it has asked for.

use std::time::{Duration, Instant};

use probe_plugin::v1::StreamRequest;
use tests::Cluster;
use tests::probe::node;

#[tokio::test]
async fn a_reader_that_does_not_read_holds_no_stop_up() {
    let cluster = Cluster::start().await;
    let host = cluster.host(cluster.config().set("shutdown.drain", "300ms").probe("alpha", node())).await;
    let mut probe = host.healthy().await.probe("alpha").await;
    // Far more than all windows on the way hold.
    let endless = StreamRequest { count: u32::MAX, size: 1 << 16, ..StreamRequest::default() };
    let unread = probe.server_stream(endless).await.expect("it begins");

    let begin = Instant::now();
    let status = host.stop().await;
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(5), "stopped after {:?}", begin.elapsed());
    let log = host.log();
    let says = |text: &str| log.iter().any(|line| line.message().contains(text));
    assert!(says("(shutdown.drain): they are cut"), "it ran until the limit");
    assert!(!says("although they were cut"), "and was gone then: {log:?}");
    drop(unread);
}
