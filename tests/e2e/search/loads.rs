//! What is loaded, released and dropped, beside other collections that stay.

use proto::querycoord::v1::ReleaseCollectionRequest;
use proto::rootcoord::v1::{DropCollectionRequest, MetricType};
use tests::LIMIT;
use tonic::{Code, Status};

use super::reference::parts;
use super::scene::{NAME, Scene, dice};

impl Scene {
    async fn release(&self, name: &str) -> Result<(), Status> {
        let request = ReleaseCollectionRequest { collection_name: name.to_owned(), collection_id: 0 };
        self.querycoord.querycoord().await.release_collection(request).await.map(drop)
    }

    /// Was it released at once?
    async fn drop_collection(&self, name: &str) -> Result<bool, Status> {
        let request = DropCollectionRequest { collection_name: name.to_owned() };
        Ok(self.rootcoord.rootcoord().await.drop_collection(request).await?.into_inner().released)
    }
}

#[tokio::test]
async fn a_dropped_collection_is_released() {
    let mut dice = dice();
    let scene = Scene::start(2).await;
    let kept = scene.create("kept", MetricType::Cosine, parts(&mut dice, [30, 40], 3)).await;
    scene.load("kept", 1).await.expect("a loaded collection");
    let dropped = scene.create(NAME, MetricType::L2, parts(&mut dice, [30, 40], 3)).await;
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&kept, 1), (&dropped, 2)]).await;
    assert!(scene.drop_collection(NAME).await.expect("it is there"), "it is released at once");
    scene.whole(LIMIT, &[(&kept, 1)]).await;
    let again = scene.drop_collection(NAME).await.expect_err("it is gone");
    assert_eq!(again.code(), Code::NotFound, "{again:?}");
    // Another of that name is another collection.
    let other = scene.create(NAME, MetricType::Ip, parts(&mut dice, [20], 5)).await;
    scene.load(NAME, 1).await.expect("a loaded collection");
    scene.searches(&other.any_question(&mut dice, 2, 5)).await;
    scene.searches(&kept.any_question(&mut dice, 2, 5)).await;
}

#[tokio::test]
async fn a_load_is_repeated_for_more_segments_and_for_other_replicas() {
    let mut dice = dice();
    let scene = Scene::start(3).await;
    let few = scene.create(NAME, MetricType::Cosine, parts(&mut dice, [30, 40], 3)).await;
    assert_eq!(scene.load(NAME, 0).await.expect("a loaded collection").replica_number, 1);
    scene.whole(LIMIT, &[(&few, 1)]).await;
    // Segments that are added later are searched from the next load on.
    let more = scene.add(&few, parts(&mut dice, [50, 20, 10], 3)).await;
    scene.searches(&few.any_question(&mut dice, 2, 7)).await;
    scene.load(NAME, 0).await.expect("a loaded collection");
    let question = more.any_question(&mut dice, 2, 7);
    scene.searches(&question).await;
    scene.whole(LIMIT, &[(&more, 1)]).await;
    for (asked, replicas) in [(2, 2), (0, 2), (3, 3), (1, 1)] {
        let loaded = scene.load(NAME, asked).await.expect("a loaded collection");
        assert_eq!(loaded.replica_number as usize, replicas);
        let nodes: Vec<_> = loaded.placements.iter().map(|placed| placed.server_ids.len()).collect();
        assert_eq!(nodes, vec![replicas; more.segments.len()], "{loaded:?}");
        scene.whole(LIMIT, &[(&more, replicas)]).await;
        scene.searches(&question).await;
    }
    scene.release(NAME).await.expect("it is loaded");
    scene.whole(LIMIT, &[]).await;
    assert_eq!(scene.release(NAME).await.expect_err("it is not loaded").code(), Code::NotFound);
    assert_eq!(scene.search(&question).await.expect_err("it is not loaded").code(), Code::FailedPrecondition);
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.searches(&question).await;
}
