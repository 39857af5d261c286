//! Calls and streams that run when the routes change: they end on the generation that they began on, or are cut at the limit.

use componenthost::swap::{Outcome, Phase};
use futures_util::StreamExt as _;
use probe_plugin::v1::{ReleaseRequest, StreamRequest};
use tests::client::reason;
use tests::probe::{chunk, held, hold};
use tests::{LIMIT, eventually, holds, within};
use tokio_stream::wrappers::ReceiverStream;

use crate::swap::rig::{AT_ONCE, Rig};

#[tokio::test]
async fn a_stream_goes_on_where_it_began_and_holds_only_the_commit() {
    let rig = Rig::start().await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut answers = rig.probe().await.bidi_stream(ReceiverStream::new(receive)).await.expect("a stream").into_inner();
    let swapping = rig.begin_swap(&AT_ONCE).await;
    rig.alpha.swap_in("alpha", Phase::Commit).await;
    assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
    for part in [b"first", b"again"] {
        send.send(chunk(part)).await.expect("the stream takes it");
        assert_eq!(answers.next().await.expect("an answer").expect("a chunk").data, part);
    }
    let generations = rig.alpha.generations("alpha").await;
    assert_eq!((generations[0].stand.as_str(), generations[0].calls), ("draining", 1), "{generations:#?}");
    assert!(!swapping.is_over());
    drop(send);
    assert!(answers.next().await.is_none());
    swapping.ended().await.assert(Outcome::Committed);
}

#[tokio::test]
async fn a_call_that_runs_is_answered_by_the_generation_that_it_began_on() {
    let rig = Rig::start().await;
    let probe = rig.probe().await;
    let mut caller = probe.clone();
    let running = tokio::spawn(async move { caller.hold(hold("k")).await });
    held(&probe, 1).await;
    let swapping = rig.begin_swap(&["--probation", "10m"]).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    // Only the new one can be told now; the other's call has to be ended by its own means.
    probe.clone().release(ReleaseRequest { key: "k".into() }).await.expect("an answer");
    assert!(!running.is_finished(), "it is the former one's");
    rig.second_goes_wrong(probe_plugin::knobs::Method::Background, probe_plugin::knobs::Fault::Panic);
    swapping.ended().await.assert(Outcome::RolledBack);
    probe.clone().release(ReleaseRequest { key: "k".into() }).await.expect("an answer");
    assert!(within(LIMIT, running).await.expect("no panic").expect("an answer").into_inner().released);
}

#[tokio::test]
async fn a_client_that_stalls_in_the_middle_of_an_answer_is_cut_at_the_limit() {
    let rig = Rig::with(|config| config.set("swap.drain", "500ms")).await;
    // Far more than all windows on the way hold.
    let endless = StreamRequest { count: u32::MAX, size: 1 << 16, ..StreamRequest::default() };
    let mut stalled = rig.probe().await.server_stream(endless).await.expect("it begins").into_inner();
    let swapped = rig.swap(&AT_ONCE).await;
    let commit = swapped.assert(Outcome::Committed).view().phases.last().cloned().expect("phases");
    assert!(commit.phase == Phase::Commit && commit.detail.contains("1 were cut"), "{commit:?}");
    // What was on its way comes first.
    let end = within(LIMIT, async {
        while let Some(chunk) = stalled.next().await {
            if let Err(status) = chunk {
                return status;
            }
        }
        panic!("it has ended well")
    })
    .await;
    assert_eq!(reason(&end), "SWAP_DRAINED");
    let nothing_is_left = async || {
        let generations = rig.alpha.generations("alpha").await;
        holds(generations[0].is_gone(), generations)
    };
    eventually(LIMIT, nothing_is_left).await;
}

#[tokio::test]
async fn a_client_that_does_not_end_its_request_is_cut_as_well() {
    let rig = Rig::with(|config| config.set("swap.drain", "500ms")).await;
    let mut probe = rig.probe().await;
    let upload = tokio_stream::iter([chunk(b"one")]).chain(tokio_stream::pending());
    let running = tokio::spawn(async move { probe.client_stream(upload).await });
    eventually(LIMIT, async || {
        let generations = rig.alpha.generations("alpha").await;
        holds(generations[0].calls == 1, generations)
    })
    .await;
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    let status = within(LIMIT, running).await.expect("no panic").expect_err("it is cut");
    assert_eq!(reason(&status), "SWAP_DRAINED");
}

#[tokio::test]
async fn a_running_call_may_use_metadata_and_peers_until_it_ends() {
    let rig = Rig::start().await;
    let probe = rig.probe().await;
    let mut watch = probe
        .clone()
        .meta_watch(probe_plugin::v1::MetaWatchRequest { prefix: "w".into() })
        .await
        .expect("a watch")
        .into_inner();
    assert_eq!(within(LIMIT, watch.next()).await.expect("an event").expect("a table").change, "table");
    let swapping = rig.begin_swap(&AT_ONCE).await;
    rig.alpha.swap_in("alpha", Phase::Commit).await;
    let write =
        probe_plugin::v1::Write { key: "w".into(), what: Some(probe_plugin::v1::write::What::Put(b"v".to_vec())) };
    let write = probe_plugin::v1::MetaRequest { what: Some(probe_plugin::v1::meta_request::What::Write(write)) };
    assert!(probe.clone().meta(write).await.expect("an answer").into_inner().succeeded, "the new one writes");
    assert_eq!(within(LIMIT, watch.next()).await.expect("an event").expect("a put").change, "put");
    drop(watch);
    swapping.ended().await.assert(Outcome::Committed);
}
