//! Loads, releases, and what follows when nodes come, go and stop.

use super::*;

fn add_segments(world: &World, ids: impl IntoIterator<Item = i64>) {
    world.cluster.change(|content| {
        content.collections.as_mut().unwrap().get_mut("c").unwrap().1 = infos(ids);
    });
}

#[tokio::test]
async fn loading_again_adds_new_segments() {
    let world = world([10, 11]).await;
    assert_eq!(world.load().await.unwrap(), [(10, 1), (11, 2)]);
    add_segments(&world, [10, 11, 12]);
    assert_eq!(world.load().await.unwrap(), [(10, 1), (11, 2), (12, 1)]);
    assert_eq!(world.found().await, (vec![10, 11, 12], false));
}

#[tokio::test]
async fn what_a_node_held_that_is_gone_is_loaded_elsewhere() {
    let world = world([10, 11]).await;
    world.load().await.unwrap();
    world.cluster.change(|content| drop(content.held.remove(&1)));
    world.holds([(2, vec![10, 11])]).await;
    assert_eq!(world.found().await, (vec![10, 11], false));
}

#[tokio::test]
async fn one_replica_of_each_segment_comes_before_a_second_of_any() {
    let world = world([10, 11, 12, 13]).await;
    world.load_on(2).await.unwrap();
    // All are lost, and there is room for four loads, two on each of these.
    world.cluster.change(|content| {
        content.loading_for_ever = [3, 4].into();
        content.held = [(3, BTreeSet::new()), (4, BTreeSet::new())].into();
    });
    let loading = || {
        let overview = world.coord.engine.overview();
        let segments = overview.collections.into_iter().flat_map(|collection| collection.segments);
        segments.map(|segment| segment.copies.iter().filter(|copy| copy.loading).count()).collect::<Vec<_>>()
    };
    let begun = tokio::time::timeout(Duration::from_secs(10), async {
        while loading().iter().sum::<usize>() < 4 {
            tokio::task::yield_now().await;
        }
    });
    assert!(begun.await.is_ok(), "{:?}", loading());
    assert_eq!(loading(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_node_that_comes_takes_its_share() {
    let world = world([10, 11, 12, 13, 14, 15]).await;
    world.load().await.unwrap();
    world.cluster.change(|content| drop(content.held.insert(3, BTreeSet::new())));
    world.holds([(1, vec![12, 14]), (2, vec![13, 15]), (3, vec![10, 11])]).await;
    assert_eq!(world.found().await, (vec![10, 11, 12], false));
}

#[tokio::test]
async fn a_node_that_stops_is_emptied_and_then_dismissed() {
    let world = world([10, 11]).await;
    world.load().await.unwrap();
    world.cluster.stop(1);
    let dismissed = async {
        while world.cluster.dismissed().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), dismissed).await.unwrap();
    assert_eq!(world.cluster.dismissed(), [(1, String::new())]);
    // It keeps what searches may be on their way to.
    world.holds([(1, vec![10]), (2, vec![10, 11])]).await;
    // The last one has nobody to leave anything to.
    world.cluster.change(|content| drop(content.held.remove(&1)));
    world.cluster.stop(2);
    let dismissed = async {
        while world.cluster.dismissed().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), dismissed).await.unwrap();
    let reason = "segments that stay, as no other querynode can take them: 2".to_owned();
    assert_eq!(world.cluster.dismissed()[1], (2, reason));
}

#[tokio::test]
async fn replicas_are_on_so_many_nodes_until_another_number_is_asked_for() {
    let world = world([10, 11]).await;
    assert_eq!(world.load_on(2).await.unwrap(), [(10, vec![1, 2]), (11, vec![1, 2])]);
    assert_eq!(world.load_on(0).await.unwrap(), [(10, vec![1, 2]), (11, vec![1, 2])]);
    let before = world.kept().await;
    let error = world.load_on(3).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let text =
        "collection 'c' cannot be loaded: each segment is to be on 3 querynodes (replica_number), and 2 can be called";
    assert_eq!(error.message(), text);
    assert_eq!(world.kept().await, before);
    assert_eq!(world.load_on(65).await.unwrap_err().code(), Code::InvalidArgument);
    world.load_on(1).await.unwrap();
    world.holds([(1, vec![11]), (2, vec![10])]).await;
    assert_eq!(world.found().await, (vec![10, 11], false));
}

#[tokio::test]
async fn a_load_that_all_nodes_refuse_changes_nothing() {
    let world = world([10]).await;
    world.load().await.unwrap();
    let before = world.kept().await;
    add_segments(&world, [10, 11, 12]);
    world.cluster.change(|content| drop(content.bad.insert(12, Status::invalid_argument("no such file"))));
    let error = world.load().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let text = "collection 'c' cannot be loaded, as segment 12 is refused by querynode-1 (InvalidArgument: no such file), \
                querynode-2 (InvalidArgument: no such file)";
    assert_eq!(error.message(), text);
    world.holds([(1, vec![10]), (2, vec![])]).await;
    assert_eq!(world.kept().await, before);
    assert_eq!(world.found().await, (vec![10], false));
}

#[tokio::test]
async fn a_node_that_fails_during_a_load_is_replaced_by_another() {
    let world = world([10, 11]).await;
    world.cluster.change(|content| drop(content.failing.insert(2, Status::unavailable("LINK_LOST"))));
    assert_eq!(world.load().await.unwrap(), [(10, 1), (11, 1)]);
    assert_eq!(world.found().await, (vec![10, 11], false));
}

#[tokio::test]
async fn where_all_nodes_fail_nothing_is_loaded_and_each_is_named() {
    let world = world([10, 11]).await;
    // Both have told what they hold.
    world.load().await.unwrap();
    world.release().await.unwrap();
    world.cluster.change(|content| {
        content.failing = [1, 2].map(|node| (node, Status::unavailable("LINK_LOST"))).into();
    });
    let error = world.load().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("querynode-1 (Unavailable: LINK_LOST), querynode-2"), "{}", error.message());
    assert_eq!(world.kept().await, []);
}

#[tokio::test]
async fn a_load_goes_on_without_its_caller_and_ends_with_a_release() {
    let world = world([10, 11]).await;
    world.cluster.change(|content| content.loading_for_ever = [1, 2].into());
    let given_up = tokio::time::timeout(Duration::from_millis(20), world.load()).await;
    assert!(given_up.is_err());
    let (second, released) = tokio::join!(world.load(), async {
        tokio::task::yield_now().await;
        world.release().await
    });
    assert_eq!(released.unwrap(), 5);
    let error = second.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Aborted, "collection 'c' was released while it was being loaded")
    );
    assert_eq!(world.kept().await, []);
}

#[tokio::test]
async fn a_collection_that_is_dropped_before_its_load_is_known_is_not_kept() {
    let world = world([10, 11]).await;
    world.cluster.change(|content| content.dropped_when_read = true);
    let error = world.load().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::NotFound, "collection 'c' was dropped while it was being loaded")
    );
    assert_eq!(world.kept().await, []);
    world.holds([(1, vec![]), (2, vec![])]).await;
    assert!(!world.coord.engine.is_wanted(5));
}

#[tokio::test]
async fn a_collection_that_is_dropped_is_not_kept_either_where_the_caller_of_its_load_has_gone() {
    let world = world([10, 11]).await;
    world.cluster.change(|content| content.dropped_when_read = true);
    let mut load = Box::pin(world.load());
    // As far as it goes without waiting: the load is asked for.
    assert!(futures_util::poll!(&mut load).is_pending());
    drop(load);
    let taken_back = tokio::time::timeout(Duration::from_secs(10), async {
        while world.cluster.confirmations() == 0 || world.coord.engine.is_wanted(5) {
            tokio::task::yield_now().await;
        }
    });
    taken_back.await.unwrap();
    assert_eq!(world.kept().await, []);
    world.holds([(1, vec![]), (2, vec![])]).await;
}

#[tokio::test]
async fn two_loads_at_once_are_both_answered() {
    let world = world([10, 11]).await;
    let (first, second) = tokio::join!(world.load_on(1), world.load_on(2));
    assert_eq!(first.unwrap().len(), 2);
    assert_eq!(second.unwrap(), [(10, vec![1, 2]), (11, vec![1, 2])]);
}

#[tokio::test]
async fn a_restarted_coordinator_goes_on_with_what_was_wanted() {
    let mut world = world([10, 11]).await;
    world.load().await.unwrap();
    world.coord.engine.deactivate();
    assert_eq!(world.load().await.unwrap_err().code(), Code::Unavailable);
    world.cluster.change(|content| drop(content.held.insert(3, [99].into())));
    world.coord = coord(&world.store, &world.cluster).await;
    // Before any node has told anything.
    assert_eq!(world.found().await, (vec![10, 11], false));
    world.holds([(1, vec![10]), (2, vec![11]), (3, vec![])]).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_its_own_collection_at_most() {
    let mut world = world([10, 11]).await;
    world.load().await.unwrap();
    world.coord.engine.deactivate();
    let broken = plugin_api::Transaction::new().put("segment/5/10", "?").put("collection/9", "?").put("other", "?");
    assert!(world.store.transact(broken).await.unwrap());
    world.coord = coord(&world.store, &world.cluster).await;
    world.holds([(1, vec![10]), (2, vec![11])]).await;
    assert_eq!(world.load().await.unwrap(), [(10, 1), (11, 2)]);
    assert_eq!(world.found().await, (vec![10, 11], false));
}

#[tokio::test]
async fn a_node_that_does_not_hold_what_it_should_loads_it_again() {
    let world = world([10, 11]).await;
    world.load().await.unwrap();
    world.cluster.change(|content| drop(content.held.insert(1, [99].into())));
    // A search finds out.
    assert_eq!(world.found().await.0.last(), Some(&11));
    world.holds([(1, vec![10]), (2, vec![11])]).await;
    assert_eq!(world.found().await, (vec![10, 11], false));
}
