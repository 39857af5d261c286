//! What belongs to one generation at a time: its background work, what it is told of peers, the tasks that it spawned.

use std::time::Duration;

use componenthost::swap::Outcome;
use etcd_client::{EventType, WatchOptions};
use plugin_api::Role;
use probe_plugin::knobs::{Fault, Method};
use probe_plugin::v1::{SpawnRequest, TaskKind};
use tests::{LIMIT, eventually, holds};
use tokio::sync::mpsc;

use crate::swap::rig::{AT_ONCE, Rig, first_edition};

/// Whose heart beats: the generation of each beat in the order of etcd's revisions.
async fn beats(rig: &Rig) -> mpsc::UnboundedReceiver<u64> {
    let key = format!("{}beat", rig.cluster.keys().metadata(&Role::new("alpha").expect("a role")));
    let mut client = rig.cluster.etcd().client().await;
    let mut events = client.watch(key, Some(WatchOptions::new())).await.expect("etcd begins a watch");
    let (send, receive) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(Some(answer)) = events.message().await {
            for event in answer.events().iter().filter(|event| event.event_type() == EventType::Put) {
                let value = event.kv().and_then(|pair| pair.value_str().ok().map(str::to_owned)).unwrap_or_default();
                let generation = value.split(' ').next().and_then(|number| number.parse().ok()).expect("a beat");
                if send.send(generation).is_err() {
                    return;
                }
            }
        }
    });
    receive
}

/// Waits for the next beat of this generation, and notes all before it.
async fn until(beats: &mut mpsc::UnboundedReceiver<u64>, generation: u64, seen: &mut Vec<u64>) {
    let limited = tokio::time::timeout(LIMIT, async {
        while let Some(beat) = beats.recv().await {
            if seen.last() != Some(&beat) {
                seen.push(beat);
            }
            if beat == generation {
                return;
            }
        }
    });
    limited.await.unwrap_or_else(|_| panic!("generation {generation} does not beat: {seen:?}"));
}

#[tokio::test]
async fn at_no_time_do_the_hearts_of_two_generations_beat() {
    let rig = Rig::start().await;
    let (mut beats, mut seen) = (beats(&rig).await, Vec::new());
    until(&mut beats, 1, &mut seen).await;
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    until(&mut beats, 2, &mut seen).await;
    // Refused before and after the first one was asked for its state.
    for method in [Method::Restore, Method::Activate] {
        rig.turn("<2", [(method, Fault::Fail)], Default::default());
        rig.alpha.swap("alpha", &first_edition(), &AT_ONCE).await.assert(Outcome::Refused);
        until(&mut beats, 2, &mut seen).await;
    }
    rig.heal();
    // Rolled back.
    let swapping = rig.alpha.begin_swap("alpha", &first_edition(), &["--probation", "10m"]).await;
    until(&mut beats, 5, &mut seen).await;
    rig.first_goes_wrong(Method::Background, Fault::Panic);
    swapping.ended().await.assert(Outcome::RolledBack);
    until(&mut beats, 2, &mut seen).await;
    assert_eq!(seen, [1, 2, 5, 2]);
}

#[tokio::test]
async fn a_former_generation_is_told_nothing_of_peers_any_more() {
    let rig = Rig::start().await;
    let swapping = rig.begin_swap(&["--probation", "10m"]).await;
    rig.alpha.swap_in("alpha", componenthost::swap::Phase::Probation).await;
    rig.is_called().await;
    let told_to = |generation: &str| {
        let log = rig.alpha.log();
        let own = log.iter().filter(|line| line.text("generation").as_deref() == Some(generation));
        let (by_method, by_stream) = own.fold((0, 0), |(by_method, by_stream), line| match line.message() {
            "life" if line.text("method").as_deref() == Some("OnPeer") => (by_method + 1, by_stream),
            "watched" => (by_method, by_stream + 1),
            _ => (by_method, by_stream),
        });
        [by_method, by_stream]
    };
    let more = |now: [usize; 2], before: [usize; 2], by: usize| {
        now.iter().zip(before).all(|(now, before)| *now >= before + by)
    };
    let (before, begun) = (told_to("1"), told_to("2"));
    rig.beta.restart().await.healthy().await;
    eventually(LIMIT, async || holds(more(told_to("2"), begun, 2), told_to("2"))).await;
    assert_eq!(told_to("1"), before, "it is the new one's");
    rig.second_goes_wrong(Method::Background, Fault::Panic);
    swapping.ended().await.assert(Outcome::RolledBack);
    // What it has missed it is told as a table.
    eventually(LIMIT, async || holds(more(told_to("1"), before, 1), told_to("1"))).await;
    rig.is_called().await;
}

#[tokio::test]
async fn tasks_that_were_spawned_end_with_their_generation() {
    let rig = Rig::start().await;
    let tick = SpawnRequest { name: "tick".into(), kind: TaskKind::Tick.into() };
    rig.probe().await.spawn(tick).await.expect("an answer");
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    let generations = rig.alpha.only_one_generation_lives("alpha").await;
    assert_eq!(generations.iter().filter(|one| one.tasks.contains_key("tick")).count(), 0, "{generations:#?}");
    let ended =
        |line: &tests::log::LogLine| line.message() == "task ended" && line.text("task").as_deref() == Some("tick");
    rig.alpha.logged(ended).await;
    assert_eq!(rig.alpha.component("alpha").await["restarts"], 0);
    let late = rig.alpha.log().into_iter().any(|line| line.level() == "ERROR");
    assert!(!late, "nobody is blamed for it");
}

#[tokio::test]
async fn what_a_call_has_left_behind_ends_on_probation() {
    let rig = Rig::start().await;
    let tick = SpawnRequest { name: "tick".into(), kind: TaskKind::Tick.into() };
    rig.probe().await.spawn(tick).await.expect("an answer");
    let ticks = async || rig.alpha.generations("alpha").await[0].tasks.contains_key("tick");
    assert!(ticks().await);
    let _swapping = rig.begin_swap(&["--probation", "10m"]).await;
    rig.alpha.swap_in("alpha", componenthost::swap::Phase::Probation).await;
    eventually(LIMIT, async || holds(!ticks().await, rig.alpha.generations("alpha").await)).await;
    assert_eq!(rig.alpha.generations("alpha").await[0].stand, "kept");
}

/// A beat is written every 10 ms: so long a pause would be seen.
const PAUSE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_pause_between_two_generations_is_short() {
    let rig = Rig::start().await;
    let (mut beats, mut seen) = (beats(&rig).await, Vec::new());
    until(&mut beats, 1, &mut seen).await;
    let swap = rig.swap(&AT_ONCE);
    let longest = async {
        let mut longest = Duration::ZERO;
        loop {
            let began = std::time::Instant::now();
            let beat = beats.recv().await.expect("the watch goes on");
            longest = longest.max(began.elapsed());
            if beat == 2 {
                return longest;
            }
        }
    };
    let (swapped, longest) = tokio::join!(swap, longest);
    swapped.assert(Outcome::Committed);
    assert!(longest < PAUSE, "{longest:?}");
}
