//! The events over HTTP: in order, from where a reader was, and without waiting for any.

use std::time::{Duration, Instant};

use componenthost::admin::Feed;
use serde_json::json;
use tests::admin::{Event, Events};
use tests::eventually::{eventually, within};

use super::{Admin, healthy};

/// Many times what is kept.
const FLOOD: u64 = 5_000;

async fn start() -> (Admin, Feed, String) {
    let admin = Admin::start(vec![healthy("querycoord")]).await;
    let (feed, address) = (admin.shown.1.clone(), admin.address.to_string());
    (admin, feed, address)
}

/// The table that a reader is given, and why.
async fn table(events: &mut Events) -> (Event, String) {
    let table = events.next().await.expect("a table");
    assert_eq!((table.kind.as_str(), &table.data["components"][0]["role"]), ("table", &json!("querycoord")));
    let dependency = &table.data["connections"]["dependencies"][0];
    assert_eq!((&dependency["role"], &dependency["events"]), (&json!("rootcoord"), &json!([])));
    let why = table.data["why"].as_str().expect("a reason").to_owned();
    (table, why)
}

#[tokio::test]
async fn a_reader_gets_a_table_and_then_each_event_in_order() {
    let (_admin, feed, address) = start().await;
    feed.tell("peer", &0);
    let (mut one, mut other) = (Events::read(&address, None).await, Events::read(&address, None).await);
    for reader in [&mut one, &mut other] {
        assert_eq!(table(reader).await.1, "begin");
    }
    (1..=50).for_each(|n| feed.tell("peer", &n));
    for reader in [&mut one, &mut other] {
        for n in 1..=50 {
            let event = reader.next().await.expect("an event");
            assert_eq!((event.kind.as_str(), event.data), ("peer", json!(n)));
        }
    }
}

#[tokio::test]
async fn who_comes_again_goes_on_where_it_was() {
    let (_admin, feed, address) = start().await;
    let mut reader = Events::read(&address, None).await;
    let begin = table(&mut reader).await.0;
    feed.tell("peer", &1);
    let seen = reader.next().await.expect("an event");
    drop(reader);
    feed.tell("component", &2);
    feed.tell("session", &3);
    for (last, expected) in [(&begin.id, vec![1, 2, 3]), (&seen.id, vec![2, 3])] {
        let mut again = Events::read(&address, Some(last)).await;
        for n in expected {
            assert_eq!(again.next().await.expect("an event").data, json!(n));
        }
        feed.tell("peer", &"new");
        assert_eq!(again.find("peer", |data| data.is_string()).await.data, "new");
    }
    let mut stranger = Events::read(&address, Some("another-7")).await;
    assert_eq!(table(&mut stranger).await.1, "gap");
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_has_missed_and_holds_up_nobody() {
    let (_admin, feed, address) = start().await;
    let mut slow = Events::read(&address, None).await;
    table(&mut slow).await;
    let long = "x".repeat(1000);
    let begin = Instant::now();
    (1..=FLOOD).for_each(|n| feed.tell("peer", &json!({ "n": n, "long": long })));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());

    let mut seen = 0;
    let table = loop {
        let event = slow.next().await.expect("an event");
        if event.kind == "table" {
            break event;
        }
        seen += 1;
        assert_eq!(event.data["n"], seen);
    };
    assert_eq!(table.data["why"], "slow");
    assert_eq!(table.data["missed"].as_u64().map(|missed| seen + missed), Some(FLOOD));
    feed.tell("peer", &"new");
    assert_eq!(slow.next().await.expect("an event").data, "new");
}

#[tokio::test]
async fn there_is_room_for_so_many_readers() {
    let (_admin, _feed, address) = start().await;
    let mut readers = Vec::new();
    let refused = loop {
        match Events::try_read(&address).await {
            Ok(reader) => readers.push(reader),
            Err(refused) => break refused,
        }
        assert!(readers.len() <= 1000, "there is no limit");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(readers.len() >= 16, "room for {} only", readers.len());
    drop(readers.pop());
    eventually(Duration::from_secs(20), || Events::try_read(&address)).await;
}

#[tokio::test]
async fn the_stop_ends_the_events_and_waits_for_no_reader() {
    let (admin, feed, address) = start().await;
    let (mut reads, stuck) = (Events::read(&address, None).await, Events::read(&address, None).await);
    table(&mut reads).await;
    feed.tell("peer", &1);
    assert_eq!(reads.next().await.expect("an event").data, 1);
    // More than the way to the one that does not read takes.
    let long = "x".repeat(100_000);
    (0..80).for_each(|_| feed.tell("peer", &long));
    feed.tell("peer", &"last");
    let begin = Instant::now();
    admin.shutdown.cancel();
    let read = async { while reads.next().await.is_some() {} };
    let (ended, ()) = tokio::join!(within(Duration::from_secs(10), admin.task), read);
    ended.expect("no panic").expect("no error");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    drop(stuck);
}
