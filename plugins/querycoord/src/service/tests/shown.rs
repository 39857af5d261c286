//! GetDistribution and ShowLoadedCollections.

use proto::querycoord::v1::{
    GetDistributionRequest, NodeDistribution, SegmentDistribution, ShowLoadedCollectionsRequest,
};
use proto::records::CollectionRecord;
use tokio::time::Instant;
use tonic::{Code, Request};

use super::super::*;
use super::fake::{Engine, Others, segment, service};
use crate::serving::{CollectionOverview, Copy, NodeOverview, SegmentOverview, Standing};

fn node(id: i64, standing: Standing) -> NodeOverview {
    NodeOverview {
        id,
        address: format!("127.0.0.1:{id}"),
        standing,
        error: String::new(),
        failed_loads: 0,
        last_load_error: String::new(),
        next_load: None,
    }
}

fn copy(node: i64) -> Copy {
    Copy { node, wanted: true, held: true, loading: false, error: String::new() }
}

fn collection(id: i64, name: &str, segments: Vec<SegmentOverview>) -> CollectionOverview {
    let name = name.to_owned();
    let collection = CollectionRecord { id, name, dimension: 2, metric: "L2".to_owned(), created: 1 };
    CollectionOverview { collection, replica_number: 2, segments }
}

fn on(id: i64, copies: Vec<Copy>) -> SegmentOverview {
    SegmentOverview { segment: segment(id), copies, lacking: None }
}

fn told(node: &NodeDistribution) -> (i64, Vec<(i64, &str)>) {
    let segment = |each: &SegmentDistribution| (each.segment.as_ref().unwrap().segment_id, each.state().as_str_name());
    (node.server_id, node.segments.iter().map(segment).collect())
}

fn with(overview: Overview) -> Service<Engine, Others> {
    Service { engine: Arc::new(Engine { overview, ..Engine::default() }), ..service() }
}

async fn distribution(service: &Service<Engine, Others>, name: &str) -> Result<GetDistributionResponse, Status> {
    let request = GetDistributionRequest { collection_name: name.to_owned() };
    Ok(service.get_distribution(Request::new(request)).await?.into_inner())
}

/// A collection in all states that there are, on nodes 1 to 8.
fn scene() -> Service<Engine, Others> {
    let away = Copy { wanted: false, ..copy(1) };
    let loading = Copy { wanted: false, held: false, loading: true, ..copy(2) };
    let failed = Copy { held: false, error: "no memory".to_owned(), ..copy(2) };
    let lacking = Some((1, "querynode-2 failed to load it (no memory)".to_owned()));
    let segments = vec![
        on(10, vec![copy(1), copy(3)]),
        // Moving from 1 to 2.
        on(11, vec![copy(1), loading]),
        SegmentOverview { lacking, ..on(12, vec![copy(1), failed]) },
        // Moved away from 1 a moment ago: released there by now.
        on(13, vec![away.clone(), copy(2)]),
        // The same, and still held there.
        on(14, vec![away, copy(4)]),
        on(15, vec![copy(5), copy(6)]),
        on(16, vec![copy(7)]),
    ];
    let failing = NodeOverview {
        failed_loads: 3,
        last_load_error: "no memory".to_owned(),
        next_load: Some(Duration::from_micros(1500)),
        ..node(2, Standing::Callable)
    };
    let nodes = vec![
        node(1, Standing::Stopping),
        failing,
        node(3, Standing::Unreachable),
        node(4, Standing::GivenUp),
        node(5, Standing::Callable),
        node(6, Standing::Callable),
        node(8, Standing::Callable),
    ];
    let service = with(Overview { nodes, collections: vec![collection(5, "c", segments)], moves: 1 });
    {
        let mut state = service.cluster.state();
        state.held = [(1, vec![10, 11, 14]), (2, vec![13])].into();
        state.failing = [(5, Status::unavailable("the link broke"))].into();
        state.hanging = [6].into();
    }
    service
}

#[tokio::test(start_paused = true)]
async fn the_distribution_says_how_each_segment_stands() {
    let begun = Instant::now();
    let answer = distribution(&scene(), "").await.unwrap();
    let waited = begun.elapsed();
    assert!(waited.as_millis() <= 1001, "a node that hangs is waited for no longer: {waited:?}");
    assert_eq!(
        answer.nodes.iter().map(told).collect::<Vec<_>>(),
        [
            (1, vec![(10, "LOADED"), (11, "LOADED"), (12, "MISSING"), (14, "LOADED")]),
            (2, vec![(11, "LOADING"), (12, "FAILED"), (13, "LOADED")]),
            (3, vec![(10, "UNREACHABLE")]),
            (4, vec![(14, "UNREACHABLE")]),
            (5, vec![(15, "SEGMENT_STATE_UNKNOWN")]),
            (6, vec![(15, "SEGMENT_STATE_UNKNOWN")]),
            (7, vec![(16, "UNREACHABLE")]),
            (8, vec![]),
        ]
    );
    assert_eq!(answer.nodes[1].segments[1].error, "no memory");
    let lacking: Vec<_> = answer.lacking.iter().map(|each| (each.num_lacking, each.reason.as_str())).collect();
    assert_eq!(lacking, [(1, "querynode-2 failed to load it (no memory)")]);
    assert_eq!(answer.lacking[0].segment.as_ref().unwrap().segment_id, 12);
    assert_eq!(answer.num_moves, 1);
}

#[tokio::test(start_paused = true)]
async fn the_distribution_says_how_each_node_stands() {
    let answer = distribution(&scene(), "").await.unwrap();
    let standing: Vec<_> =
        answer.nodes.iter().map(|node| (node.callable, node.stopping, node.error.as_str())).collect();
    assert_eq!(
        standing,
        [
            (true, true, ""),
            (true, false, ""),
            (false, false, "it cannot be called: its link is broken, or is being made"),
            (false, false, "it cannot be called: no link to it could be made for long"),
            (true, false, "Unavailable: the link broke"),
            (true, false, "DeadlineExceeded: no answer within 1s"),
            (false, false, "it is not there"),
            (true, false, ""),
        ]
    );
    let second = &answer.nodes[1];
    assert_eq!((second.failed_loads, second.last_load_error.as_str(), second.next_load_ms), (3, "no memory", 2));
    assert_eq!((second.num_rows, second.address.as_str()), (3, "127.0.0.1:2"));
}

#[tokio::test]
async fn a_distribution_is_that_of_the_collection_that_is_named() {
    let of = |id, name, segment| collection(id, name, vec![on(segment, vec![copy(1)])]);
    let collections = vec![of(5, "c", 10), of(6, "d", 20)];
    let service = with(Overview { nodes: vec![node(1, Standing::Callable)], collections, moves: 0 });
    service.cluster.state().held = [(1, vec![10, 20])].into();
    for (name, expected) in [("", vec![10, 20]), ("c", vec![10]), ("d", vec![20])] {
        let answer = distribution(&service, name).await.unwrap();
        assert_eq!(told(&answer.nodes[0]).1.iter().map(|(id, _)| *id).collect::<Vec<_>>(), expected);
    }
    for (name, code, text) in [
        ("x", Code::NotFound, "collection 'x' is not loaded"),
        ("x y", Code::InvalidArgument, "collection_name 'x y': it has to be"),
    ] {
        let error = distribution(&service, name).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.message().starts_with(text), "{error}");
    }
}

#[tokio::test]
async fn of_a_loaded_collection_it_is_told_what_can_be_searched_and_what_is_whole() {
    let missing = Copy { held: false, ..copy(2) };
    let segments = vec![
        on(10, vec![copy(1), copy(2)]),
        on(11, vec![copy(1), missing]),
        on(12, vec![copy(3), copy(4)]),
        on(13, vec![copy(4)]),
        on(14, vec![]),
    ];
    let nodes = vec![
        node(1, Standing::Stopping),
        node(2, Standing::Callable),
        node(3, Standing::Unreachable),
        node(4, Standing::GivenUp),
    ];
    let service = with(Overview { nodes, collections: vec![collection(5, "c", segments)], moves: 0 });
    let shown = service.show_loaded_collections(Request::new(ShowLoadedCollectionsRequest {})).await.unwrap();
    let shown = &shown.into_inner().collections[0];
    assert_eq!((shown.num_segments, shown.num_rows, shown.replica_number), (5, 5, 2));
    assert_eq!((shown.num_reachable_segments, shown.num_whole_segments), (2, 2));
}

#[tokio::test]
async fn many_segments_on_many_nodes_are_told_of_quickly() {
    let segments = (0..1000).map(|id| on(id, vec![copy(id % 50), copy((id + 1) % 50)])).collect();
    let nodes = (0..50).map(|id| node(id, Standing::Callable)).collect();
    let service = with(Overview { nodes, collections: vec![collection(5, "c", segments)], moves: 0 });
    let held = |node: i64| (0..1000).filter(|id| id % 50 == node || (id + 1) % 50 == node).collect();
    service.cluster.state().held = (0..50).map(|node| (node, held(node))).collect();
    let begun = std::time::Instant::now();
    let answer = distribution(&service, "").await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    for node in &answer.nodes {
        let (_, segments) = told(node);
        assert_eq!(segments.len(), 40);
        assert!(segments.iter().all(|(_, state)| *state == "LOADED"));
    }
}
