//! Nodes whose session lives and that cannot be called: searches go elsewhere, and nothing is moved until they are given up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::querycoord::v1::SegmentState;
use proto::rootcoord::v1::MetricType;
use serde_json::json;
use tests::cluster::free_address;
use tests::proxy::Proxy;
use tests::{LIMIT, eventually, holds};

use super::held::held_by;
use super::reference::parts;
use super::scene::{NAME, Scene, Settings, dice};
use super::searches::Searches;

const DEADLINE: Duration = Duration::from_secs(3);

/// Sessions that outlive what is done here.
const LONG_TTL: &str = "30s";

/// How long a node is out of reach: long enough for many searches, and for moves that must not be.
const AWAY: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_node_that_hangs_with_a_live_session_costs_no_search_and_moves_nothing() {
    let mut dice = dice();
    let settings = Settings { all: vec![("session.ttl", json!(LONG_TTL))], ..Settings::nodes(3) };
    let scene = Scene::with(settings).await;
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [50; 9], 6)).await;
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    let before = scene.held().await.expect("the nodes answer");
    let questions = [collection.any_question(&mut dice, 3, 10)];
    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &questions, clients: 3, deadline: DEADLINE };
    let node = scene.node(dice.usize(..3));
    let away = async {
        node.sigstop().await;
        tokio::time::sleep(AWAY).await;
        for other in scene.nodes().iter().filter(|other| other.pid() != node.pid()) {
            let id = other.server_id("querynode").await;
            assert_eq!(held_by(other).await.expect("it answers"), before[&id], "nothing was to be moved");
        }
        node.cont();
    };
    let (tally, ()) = searches.during(&mut dice, away).await;
    tally.print("a node hung");
    tally.assert_all_whole();
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    assert_eq!(scene.held().await.expect("the nodes answer"), before, "nothing was to be moved");
}

#[tokio::test]
async fn a_node_whose_link_is_cut_keeps_its_segments_until_it_is_given_up() {
    let mut dice = dice();
    // Three windows of two seconds before a peer is given up.
    let all = vec![
        ("session.ttl", json!(LONG_TTL)),
        ("connections.window", json!("2s")),
        ("connections.probe_interval", json!("500ms")),
    ];
    let scene = Scene::with(Settings { all, ..Settings::nodes(2) }).await;
    let listen: SocketAddr = free_address().parse().expect("an address");
    let proxy = Proxy::to(listen);
    let node = scene.spawn_node(|config| {
        config.set("server.listen", listen.to_string()).set("server.advertise", proxy.address().to_string())
    });
    node.healthy().await;
    scene.links(3).await;
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [50; 9], 6)).await;
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    let before = scene.held().await.expect("the nodes answer");
    let id = node.server_id("querynode").await;
    let questions = [collection.any_question(&mut dice, 3, 10)];
    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &questions, clients: 3, deadline: DEADLINE };

    let cut = async {
        proxy.cut();
        let cut = Instant::now();
        // Offline: it is shown, and nothing else changes.
        eventually(LIMIT, async || {
            let told = scene.distribution().await?;
            let shown = told.nodes.iter().find(|told| told.server_id == id).ok_or("it is not shown")?;
            let unreachable = shown.segments.iter().all(|each| each.state() == SegmentState::Unreachable);
            holds(!shown.callable && unreachable && !shown.segments.is_empty(), format!("{told:#?}"))
        })
        .await;
        while cut.elapsed() < AWAY {
            assert_eq!(scene.held().await.expect("the nodes answer"), before, "nothing was to be moved");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Given up: the others take over what it held. It cannot be told, and holds what it held.
        eventually(LIMIT, async || {
            let held = scene.held().await?;
            let all =
                |number: usize| held.values().filter(|held| held.len() == collection.segments.len()).count() == number;
            holds(all(2) && held[&id] == before[&id], format!("{held:?}"))
        })
        .await;
        // Back: nothing is held twice for good.
        proxy.heal();
        scene.whole(LIMIT, &[(&collection, 2)]).await;
    };
    let (tally, ()) = searches.during(&mut dice, cut).await;
    tally.print("a link was cut, and given up");
    tally.assert_all_whole();
}
