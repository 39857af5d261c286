//! A swap while peers come and go: the links stay, and the new generation knows how things are.

use componenthost::swap::{Outcome, Phase};
use probe_plugin::v1::{CallKind, Empty, PeersRequest};
use serde_json::json;
use tests::load::Load;
use tests::probe::{call, calling, reaches};
use tests::{LIMIT, eventually, holds};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::swap::rig::{AT_ONCE, Rig, first_edition, second_edition, text};

#[tokio::test]
async fn the_new_one_has_the_links_that_are_there() {
    let rig = Rig::start().await;
    let dialled = async || rig.alpha.connections().await["dependencies"][0]["peers"][0]["attempts"].clone();
    let (before, address) = (dialled().await, rig.beta.address().await);
    assert_eq!(rig.alpha.connected_to(&address), 1);
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    let seen = rig.probe().await.call(call("beta", CallKind::Unary)).await.expect("an answer").into_inner();
    assert_eq!((seen.code, dialled().await, rig.alpha.connected_to(&address)), (0, before, 1), "{seen:?}");
    let table = rig.probe().await.events(Empty {}).await.expect("an answer").into_inner();
    for (way, events) in [("on_peer", table.on_peer), ("watched", table.watched)] {
        assert_eq!(events.first().map(|event| event.change.as_str()), Some("table"), "{way}: {events:?}");
    }
}

#[tokio::test]
async fn a_peer_that_dies_meanwhile_is_known_to_be_gone_and_comes_back() {
    let rig = Rig::start().await;
    let swapping = rig.begin_swap_held_in(Phase::Warm, &AT_ONCE).await;
    rig.beta.kill9();
    rig.heal();
    swapping.ended().await.assert(Outcome::Committed);
    let probe = rig.probe().await;
    eventually(LIMIT, async || {
        let peers = probe.clone().peers(PeersRequest { role: "beta".into() }).await.expect("an answer").into_inner();
        holds(peers.peers.iter().all(|peer| peer.link != "ready"), peers)
    })
    .await;
    rig.beta.restart().await.healthy().await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
}

#[tokio::test]
async fn a_peer_that_hangs_holds_no_swap_up() {
    let rig = Rig::start().await;
    rig.beta.sigstop().await;
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    rig.beta.cont();
    reaches(&rig.probe().await, &call("beta", CallKind::Unary)).await;
}

#[tokio::test]
async fn a_caller_that_dies_meanwhile_is_of_no_interest() {
    let rig = Rig::start().await;
    let swapping = rig.begin_swap_held_in(Phase::Warm, &AT_ONCE).await;
    rig.gamma.kill9();
    rig.heal();
    swapping.ended().await.assert(Outcome::Committed);
    rig.gamma.restart().await.healthy().await;
    rig.is_called().await;
}

#[tokio::test]
async fn callers_within_the_same_host_do_not_notice_either() {
    let caller = json!({ "kind": "node", "dependencies": calling(&["alpha"])["dependencies"] });
    let rig = Rig::with(|config| config.probe("delta", caller)).await;
    let delta = rig.alpha.probe("delta").await;
    let load = [CallKind::Unary, CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream, CallKind::Count];
    let load = load.into_iter().fold(Load::default(), |load, kind| {
        let delta = &delta;
        load.with(&format!("{kind:?}"), async move || {
            let seen = delta.clone().call(call("alpha", kind)).await.map_err(text)?.into_inner();
            if seen.code == 0 { Ok(()) } else { Err(format!("{seen:?}")) }
        })
    });
    let swaps = async {
        for file in [second_edition(), first_edition(), second_edition()] {
            rig.alpha.swap("alpha", &file, &AT_ONCE).await.assert(Outcome::Committed);
        }
        // And the caller itself.
        rig.alpha.swap("delta", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    };
    let (tally, ()) = load.during(swaps).await;
    tally.assert_none_failed();
}

#[tokio::test]
async fn a_swap_goes_on_though_nobody_follows_it() {
    let rig = Rig::start().await;
    rig.second_waits_in(Phase::Warm);
    let order = json!({ "plugin": second_edition(), "probation": "0s" }).to_string();
    let mut socket = UnixStream::connect(rig.alpha.socket().await).await.expect("it listens");
    let length = order.len();
    let head = format!("POST /api/v1/components/alpha/swap HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all((head + &order).as_bytes()).await.expect("it takes a request");
    rig.alpha.swap_in("alpha", Phase::Warm).await;
    drop(socket);
    rig.heal();
    eventually(LIMIT, async || {
        let view = rig.alpha.last_swap("alpha").await;
        holds(view.as_ref().is_some_and(|view| view.outcome == Some(Outcome::Committed)), view)
    })
    .await;
}
