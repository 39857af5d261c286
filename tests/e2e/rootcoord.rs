//! RootCoord as its callers see it: what two do at once, what is dropped, and the circle that it is in with QueryCoord.

use std::time::Duration;

use etcd_client::{Client, GetOptions, Txn, TxnOp};
use plugin_api::identity::Role;
use proto::querycoord::v1::{LoadCollectionRequest, ShowLoadedCollectionsRequest};
use proto::querynode::v1::GetSegmentInfoRequest;
use proto::querynode::v1::query_node_client::QueryNodeClient;
use proto::rootcoord::v1::{
    AddSegmentRequest, CollectionInfo, CreateCollectionRequest, DropCollectionRequest, MetricType, ShowSegmentsRequest,
};
use serde_json::json;
use tempfile::TempDir;
use tests::eventually::within;
use tests::vectors::Vectors;
use tests::{Cluster, Host, HostConfig, LIMIT, eventually, holds};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const DIMENSION: u32 = 8;
const ROWS: usize = 100;

/// A cluster and a folder for its files.
struct Scene {
    cluster: Cluster,
    files: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let files = TempDir::with_prefix("componenthost-test-vectors-").expect("a temporary directory can be made");
        Self { cluster: Cluster::start().await, files }
    }

    /// The configuration of a host with these roles.
    fn config(&self, roles: &[&str]) -> HostConfig {
        roles.iter().fold(self.cluster.config(), |config, role| {
            let own = if *role == "querycoord" { json!({}) } else { json!({ "data_dirs": [self.files.path()] }) };
            config.component(role, role, own)
        })
    }

    async fn host(&self, roles: &[&str]) -> Host {
        let host = self.cluster.host(self.config(roles)).await;
        host.healthy().await;
        host
    }

    /// A collection with two segments, loaded.
    async fn fill(&self, rootcoord: &Host, querycoord: &Host, name: &str) {
        create(rootcoord, name).await.expect("a new collection");
        for number in 0..2 {
            let path = format!("{name}-{number}.npy");
            Vectors::random(number, ROWS, DIMENSION as usize).write_npy(&self.files.path().join(&path));
            add(rootcoord, name, &path).await.expect("a new segment");
        }
        let request = LoadCollectionRequest { collection_name: name.to_owned(), replica_number: 0 };
        querycoord.querycoord().await.load_collection(request).await.expect("a loaded collection");
    }

    /// Waits until nothing is left in the metadata.
    async fn keeps_nothing(&self) {
        eventually(LIMIT, || async {
            let kept = self.kept().await;
            holds(kept.is_empty(), kept)
        })
        .await;
    }

    /// What RootCoord keeps in etcd, without what it gives out ids and timestamps from.
    async fn kept(&self) -> Vec<String> {
        let prefix = self.metadata();
        let options = GetOptions::new().with_prefix().with_keys_only();
        let answer = self.etcd().await.get(prefix.clone(), Some(options)).await.expect("etcd answers a get");
        let keys = answer.kvs().iter().map(|pair| pair.key_str().expect("UTF-8").replace(&prefix, ""));
        keys.filter(|key| !["id/next", "timestamp/saved"].contains(&key.as_str())).collect()
    }

    fn metadata(&self) -> String {
        self.cluster.keys().metadata(&Role::new("rootcoord").expect("a role"))
    }

    async fn etcd(&self) -> Client {
        self.cluster.etcd().client().await
    }
}

async fn create(host: &Host, name: &str) -> Result<CollectionInfo, Status> {
    let metric_type = MetricType::L2.into();
    let request = CreateCollectionRequest { collection_name: name.to_owned(), dimension: DIMENSION, metric_type };
    let answer = host.rootcoord().await.create_collection(request).await?;
    Ok(answer.into_inner().collection.expect("the answer tells the collection"))
}

async fn add(host: &Host, name: &str, path: &str) -> Result<i64, Status> {
    let request = AddSegmentRequest { collection_name: name.to_owned(), path: path.to_owned() };
    let answer = host.rootcoord().await.add_segment(request).await?;
    Ok(answer.into_inner().segment.expect("the answer tells the segment").segment_id)
}

/// Was it released at once?
async fn drop_collection(host: &Host, name: &str) -> Result<bool, Status> {
    let request = DropCollectionRequest { collection_name: name.to_owned() };
    Ok(host.rootcoord().await.drop_collection(request).await?.into_inner().released)
}

/// Neither QueryCoord nor the node has anything loaded in the end.
async fn nothing_is_loaded(querycoord: &Host, node: &Host) {
    eventually(LIMIT, || async {
        let loaded = querycoord.querycoord().await.show_loaded_collections(ShowLoadedCollectionsRequest {}).await?;
        let mut client = QueryNodeClient::new(node.channel().await);
        let held = client.get_segment_info(GetSegmentInfoRequest::default()).await?.into_inner().segments;
        let loaded = loaded.into_inner().collections;
        if loaded.is_empty() && held.is_empty() { Ok(()) } else { Err(Status::unknown(format!("{loaded:?} {held:?}"))) }
    })
    .await;
}

/// One of those who create the same collection at once has created it; the others are told which one it is.
async fn one_is_created(host: &Host, name: &str) -> CollectionInfo {
    let all = futures_util::future::join_all((0..8).map(|_| create(host, name))).await;
    let (created, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(created.len(), 1, "{refused:?}");
    let created = created.into_iter().next().expect("one").expect("created");
    for refused in refused {
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
        let told = refused.get_details_error_info().expect("the status tells which one");
        assert_eq!(told.metadata["collection_id"], created.collection_id.to_string());
    }
    created
}

#[tokio::test]
async fn of_many_who_create_the_same_collection_at_once_one_does_also_after_a_takeover() {
    let scene = Scene::start().await;
    let active = scene.host(&["rootcoord"]).await;
    let standby = scene.cluster.host(scene.config(&["rootcoord"])).await;
    standby.in_state("rootcoord", "StandBy").await;
    let first = one_is_created(&active, "first").await;
    active.kill9();
    standby.healthy().await;
    let taken = create(&standby, "first").await.expect_err("the name is taken");
    let text =
        format!("there is a collection 'first' already: id {}, dimension {DIMENSION}, metric L2", first.collection_id);
    assert_eq!((taken.code(), taken.message()), (Code::AlreadyExists, text.as_str()));
    let second = one_is_created(&standby, "second").await;
    assert!(second.collection_id > first.collection_id, "{first:?} {second:?}");
    assert!(second.created_timestamp > first.created_timestamp, "{first:?} {second:?}");
}

#[tokio::test]
async fn of_many_who_add_the_same_file_at_once_one_does_and_a_drop_takes_it_along() {
    let scene = Scene::start().await;
    let host = scene.host(&["rootcoord"]).await;
    let id = create(&host, "c").await.expect("a new collection").collection_id;
    Vectors::random(1, ROWS, DIMENSION as usize).write_npy(&scene.files.path().join("a.npy"));
    let all = futures_util::future::join_all((0..8).map(|_| add(&host, "c", "a.npy"))).await;
    let added: Vec<_> = all.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(added.len(), 1, "{all:?}");
    for refused in all.iter().filter_map(|answer| answer.as_ref().err()) {
        let told = refused.get_details_error_info().expect("the status tells which one");
        assert_eq!((refused.code(), &told.metadata["segment_id"]), (Code::AlreadyExists, &added[0].to_string()));
    }
    drop_collection(&host, "c").await.expect("it is dropped");
    let again = add(&host, "c", "a.npy").await.expect_err("it is gone");
    assert_eq!(again.code(), Code::NotFound, "{again}");
    assert!(create(&host, "c").await.expect("a new one").collection_id > id);
    add(&host, "c", "a.npy").await.expect("it is no segment of this one");
}

#[tokio::test]
async fn a_dropped_collection_is_released_at_once() {
    let scene = Scene::start().await;
    let [rootcoord, querycoord, node] =
        [scene.host(&["rootcoord"]).await, scene.host(&["querycoord"]).await, scene.host(&["querynode"]).await];
    querycoord.ready().await;
    scene.fill(&rootcoord, &querycoord, "c").await;
    // Its link to QueryCoord may still be on its way.
    let begun = scene.kept().await;
    assert_eq!(begun.len(), 6, "{begun:?}");
    eventually(LIMIT, || async {
        let text = rootcoord.connections().await.to_string();
        holds(text.contains(r#""link":"ready""#), text)
    })
    .await;
    assert!(drop_collection(&rootcoord, "c").await.expect("it is dropped"));
    nothing_is_loaded(&querycoord, &node).await;
    scene.keeps_nothing().await;
}

#[tokio::test]
async fn what_was_dropped_without_a_querycoord_is_released_when_one_comes_whoever_is_rootcoord_then() {
    let scene = Scene::start().await;
    let [rootcoord, querycoord, node] =
        [scene.host(&["rootcoord"]).await, scene.host(&["querycoord"]).await, scene.host(&["querynode"]).await];
    querycoord.ready().await;
    scene.fill(&rootcoord, &querycoord, "c").await;
    scene.fill(&rootcoord, &querycoord, "d").await;
    querycoord.kill9();
    assert!(!drop_collection(&rootcoord, "c").await.expect("it is dropped"), "nobody can release it");
    // It is gone all the same, and its segments with it.
    eventually(LIMIT, || async {
        let kept = scene.kept().await;
        holds(kept.iter().filter(|key| key.starts_with("segment")).count() == 4, kept)
    })
    .await;
    let standby = scene.cluster.host(scene.config(&["rootcoord"])).await;
    standby.in_state("rootcoord", "StandBy").await;
    rootcoord.kill9();
    standby.healthy().await;
    assert!(!drop_collection(&standby, "d").await.expect("it is dropped"), "nobody can release it");
    querycoord.restart().await.healthy().await;
    nothing_is_loaded(&querycoord, &node).await;
    scene.keeps_nothing().await;
}

#[tokio::test]
async fn ten_thousand_segments_are_shown_and_dropped_within_a_short_deadline() {
    let scene = Scene::start().await;
    let host = scene.host(&["rootcoord"]).await;
    let id = create(&host, "c").await.expect("a new collection").collection_id;
    let (prefix, mut etcd) = (scene.metadata(), scene.etcd().await);
    let numbers: Vec<_> = (1_000..11_000).collect();
    for some in numbers.chunks(60) {
        let puts = some.iter().flat_map(|number| {
            let path = format!("a/folder/with/a/name/of/some/length/part-{number}.npy");
            let record = json!({ "id": number, "collection": id, "path": path, "rows": 1, "first_id": number });
            let file = format!("{prefix}segment-file/{id}/srv/{path}");
            let segment = format!("{prefix}segment/{id}/{number}");
            [TxnOp::put(file, number.to_string(), None), TxnOp::put(segment, record.to_string(), None)]
        });
        etcd.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.expect("etcd takes the keys");
    }
    let mut client = host.rootcoord().await.max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
    let shown = client.show_segments(ShowSegmentsRequest { collection_id: id }).await.expect("an answer").into_inner();
    assert_eq!(shown.segments.iter().map(|segment| segment.segment_id).collect::<Vec<_>>(), numbers);
    let mut request = Request::new(DropCollectionRequest { collection_name: "c".to_owned() });
    // What is left of it is removed afterwards.
    request.set_timeout(Duration::from_secs(2));
    client.drop_collection(request).await.expect("it is dropped in time");
    eventually(LIMIT, || async {
        let kept = scene.kept().await;
        holds(kept.iter().all(|key| key.starts_with("dropped/")), kept.len())
    })
    .await;
}

#[tokio::test]
async fn a_circle_of_dependencies_starts_in_any_order() {
    let roles = ["rootcoord", "querycoord", "querynode"];
    for first in 0..roles.len() {
        let scene = Scene::start().await;
        let alone = scene.host(&[roles[first]]).await;
        // QueryCoord is needed by RootCoord only for what was dropped; the others need RootCoord.
        let expected = if roles[first] == "rootcoord" { 200 } else { 503 };
        assert_eq!(alone.get("/readyz").await.status, expected, "{} alone", roles[first]);
        let second = scene.host(&[roles[(first + 1) % 3]]).await;
        let third = scene.host(&[roles[(first + 2) % 3]]).await;
        for host in [&alone, &second, &third] {
            host.ready().await;
        }
        let began = std::time::Instant::now();
        let stopped = futures_util::future::join_all([&alone, &second, &third].map(Host::stop)).await;
        assert!(stopped.iter().all(std::process::ExitStatus::success), "{stopped:?}");
        // None waits for another that waits for it. A querynode may wait for its segments to be moved, for the grace at most.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_circle_within_one_host_ends_where_one_can_do_without_the_other() {
    let scene = Scene::start().await;
    let host = scene.host(&["rootcoord", "querycoord", "querynode"]).await;
    host.ready().await;
    let stopped = within(Duration::from_secs(20), host.stop()).await;
    assert!(stopped.success(), "{stopped}");
    let log = host.log();
    let ended: Vec<_> =
        log.iter().filter(|line| line.message() == "ended").filter_map(|line| line.text("role")).collect();
    assert_eq!(ended, ["querycoord", "querynode", "rootcoord"]);
}
