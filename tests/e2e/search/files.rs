//! What becomes of the files after they were loaded, and of loads that fail.

use std::fs::{self, File};
use std::time::Duration;

use proto::rootcoord::v1::MetricType;
use tests::{LIMIT, eventually, holds};

use super::reference::parts;
use super::scene::{NAME, Scene, dice};
use super::searches::Searches;

const DEADLINE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn files_that_are_truncated_overwritten_and_deleted_change_no_answer() {
    let mut dice = dice();
    let scene = Scene::start(2).await;
    // More than a page each, so that a mapping of the file would lose some.
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [400; 6], 16)).await;
    scene.load(NAME, 1).await.expect("a loaded collection");
    let questions = [collection.any_question(&mut dice, 3, 10), collection.any_question(&mut dice, 1, 500)];
    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &questions, clients: 3, deadline: DEADLINE };
    let changes = async {
        for (number, segment) in collection.segments.iter().enumerate() {
            let size = fs::metadata(&segment.path).expect("it is there").len();
            let open = || File::options().write(true).open(&segment.path).expect("it can be written");
            match number % 3 {
                0 => open().set_len(0).expect("it can be truncated"),
                1 => fs::write(&segment.path, vec![0x41; size as usize]).expect("it can be overwritten"),
                _ => fs::remove_file(&segment.path).expect("it can be deleted"),
            }
            for question in &questions {
                scene.searches(question).await;
            }
        }
    };
    let (tally, ()) = searches.during(&mut dice, changes).await;
    tally.assert_all_whole();
    scene.nobody_has_ended();
}

#[tokio::test]
async fn a_load_that_fails_is_told_and_tried_again() {
    let mut dice = dice();
    let scene = Scene::start(3).await;
    let collection = scene.create(NAME, MetricType::Ip, parts(&mut dice, [40; 6], 8)).await;
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    let question = collection.any_question(&mut dice, 2, 10);
    // A file is away when its second copy is needed.
    let held = scene.held().await.expect("the nodes answer");
    let node = scene.node(0);
    let lost = *held[&node.server_id("querynode").await].first().expect("it holds some");
    let path = &collection.segments.iter().find(|segment| segment.id == lost).expect("a segment").path;
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).expect("it can be renamed");
    node.kill9();
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    eventually(LIMIT, async || {
        let told = scene.distribution().await?;
        let lacking: Vec<_> =
            told.lacking.iter().filter_map(|lacking| Some(lacking.segment.as_ref()?.segment_id)).collect();
        let reason = told.lacking.first().is_some_and(|lacking| lacking.reason.contains(&name));
        let failed = told.nodes.iter().any(|node| node.failed_loads > 0 && node.last_load_error.contains(&name));
        holds(lacking == [lost] && reason && failed, format!("{told:#?}"))
    })
    .await;
    // The other copy is there still.
    scene.searches(&question).await;
    fs::rename(&aside, path).expect("it can be renamed");
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    scene.searches(&question).await;
}
