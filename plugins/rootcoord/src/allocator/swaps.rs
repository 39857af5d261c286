//! Generations that take each other's place, committed, refused and rolled back, over one store: nothing is given out twice,
//! and no timestamp goes back.
#![expect(clippy::print_stdout, reason = "the seed of a run that failed")]

use std::cell::Cell;

use proto::state::Format;
use proto::store::{Fault, MemoryStore};

use super::*;
use crate::in_hand::{Handed, HandedError};

const OURS: Format = Format { version: 1, readable_from: 1 };
const NEWER: Format = Format { version: 2, readable_from: 1 };

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000_000) };
}

type Generation = Allocator<MemoryStore>;

fn generation(store: &Arc<MemoryStore>) -> Generation {
    Allocator::new(Arc::clone(store), Arc::default(), || NOW.get())
}

/// What is handed over, on its way through the bytes: of this version, or of a newer one with a field more.
async fn handed(from: &Generation, by_newer: bool) -> Handed {
    let snapshot = OURS.write(&from.in_hand.hand_over().await).unwrap();
    let snapshot = if by_newer { NEWER.add(snapshot, "name", &"newer").unwrap() } else { snapshot };
    OURS.read(&snapshot).unwrap()
}

/// The new one knows what the old one knew, and neither gives out anything.
async fn hand_over(from: &Generation, to: &Generation, by_newer: bool) {
    to.in_hand.take_over(handed(from, by_newer).await).await.unwrap();
    for one in [from, to] {
        assert!(matches!(one.ids(1).await, Err(AllocatorError::Paused)));
        assert!(matches!(one.timestamps(1).await, Err(AllocatorError::Paused)));
    }
}

/// Whom it was given out to, of all generations.
struct World {
    store: Arc<MemoryStore>,
    random: fastrand::Rng,
    ids: Vec<(i64, i64)>,
    free: u64,
}

impl World {
    async fn allocate(&mut self, one: &Generation) {
        for _ in 0..self.random.u8(0..5) {
            match self.random.u8(0..40) {
                0 => self.store.fail_next([Fault::Lost]),
                1 => self.store.fail_next([Fault::Unanswered]),
                2 => NOW.set(NOW.get().saturating_sub(self.random.u64(0..5_000))),
                3..20 => NOW.set(NOW.get() + self.random.u64(0..2_000)),
                _ => {}
            }
            let count = self.random.u64(1..40_000);
            if let Ok(first) = one.ids(count).await {
                self.ids.push((first, first + count as i64));
            }
            let count = self.random.u32(1..=262_144);
            if let Ok(first) = one.timestamps(count).await {
                assert!(first >= self.free, "{first} after {}", self.free);
                self.free = first + u64::from(count);
            }
        }
    }

    /// The answer is who is active after it.
    async fn swap(&mut self, old: Generation) -> Generation {
        let new = generation(&self.store);
        let by_newer = self.random.bool();
        match self.random.u8(0..12) {
            // A takeover, a swap without the state, or a kill: nothing is handed over.
            0 => {
                old.in_hand.pause();
                new.in_hand.reset().await;
                return new;
            }
            // Refused before the switch.
            1..4 => {
                hand_over(&old, &new, by_newer).await;
                old.in_hand.pause();
                old.in_hand.go_on();
                return old;
            }
            // In a standby what was restored is forgotten by the takeover.
            4 => {
                hand_over(&old, &new, by_newer).await;
                old.in_hand.reset().await;
                self.allocate(&old).await;
                old.in_hand.pause();
                new.in_hand.reset().await;
                return new;
            }
            _ => {
                hand_over(&old, &new, by_newer).await;
                old.in_hand.pause();
                new.in_hand.go_on();
            }
        }
        self.allocate(&new).await;
        match self.random.u8(0..4) {
            // Rolled back after the switch, with the new one's state, or without.
            0 => {
                new.in_hand.pause();
                hand_over(&new, &old, !by_newer).await;
                old.in_hand.go_on();
                old
            }
            1 => {
                new.in_hand.pause();
                old.in_hand.reset().await;
                old
            }
            _ => new,
        }
    }
}

#[tokio::test]
async fn thousands_of_swaps_give_nothing_twice_and_go_back_in_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let store = Arc::new(MemoryStore::default());
    let random = fastrand::Rng::with_seed(seed);
    let mut world = World { store: Arc::clone(&store), random, ids: Vec::new(), free: 0 };
    let mut active = generation(&store);
    for _ in 0..5_000 {
        world.allocate(&active).await;
        active = world.swap(active).await;
    }
    assert!(world.ids.len() > 5_000);
    world.ids.sort_unstable();
    assert!(world.ids.windows(2).all(|pair| pair[0].1 <= pair[1].0));
}

#[tokio::test]
async fn a_swap_goes_on_where_the_other_ended_and_writes_nothing() {
    let store = Arc::new(MemoryStore::default());
    let mut active = generation(&store);
    let (first_id, first_timestamp) = (active.ids(1).await.unwrap(), active.timestamps(1).await.unwrap());
    // The next write fails, and would be noticed.
    store.fail_next([Fault::Lost]);
    for swaps in 1..=1000 {
        let new = generation(&store);
        hand_over(&active, &new, false).await;
        new.in_hand.go_on();
        assert_eq!(new.ids(1).await.unwrap(), first_id + swaps);
        assert_eq!(new.timestamps(1).await.unwrap(), first_timestamp + swaps as u64);
        active = new;
    }
}

#[tokio::test]
async fn who_waits_for_a_write_when_it_is_handed_over_is_refused_or_counted() {
    let store = Arc::new(MemoryStore::default());
    let (old, new) = (generation(&store), generation(&store));
    for _ in 0..200 {
        let (given, handed) = tokio::join!(old.ids(60_000), handed(&old, false));
        new.in_hand.take_over(handed).await.unwrap();
        new.in_hand.go_on();
        let next = new.ids(60_000).await.unwrap();
        assert!(given.is_err() || given.is_ok_and(|first| first + 60_000 <= next));
        hand_over(&new, &old, false).await;
        old.in_hand.go_on();
    }
}

#[tokio::test]
async fn what_nobody_can_have_had_in_hand_is_refused_and_changes_nothing() {
    let store = Arc::new(MemoryStore::default());
    let one = generation(&store);
    let first = one.ids(1).await.unwrap();
    let clock = |physical: u64, logical: u32, saved: u64| {
        format!(
            r#"{{"clock":{{"physical":{physical},"logical":{logical},"saved":{saved}}},"ids":{{"next":1,"end":2}}}}"#
        )
    };
    let ids = |next: i64, end: i64| format!(r#"{{"clock":null,"ids":{{"next":{next},"end":{end}}}}}"#);
    let bad = [clock(6, 0, 5), clock(5, 1, 5), clock(4, 262_145, 5), clock(1 << 47, 0, 1 << 47), clock(0, 0, u64::MAX)];
    for text in bad {
        let error = one.in_hand.take_over(serde_json::from_str(&text).unwrap()).await.unwrap_err();
        assert!(matches!(error, HandedError::Clock(_)), "{text}");
    }
    for text in [ids(0, 1), ids(5, 4), ids(-1, 4), ids(i64::MIN, i64::MAX)] {
        let error = one.in_hand.take_over(serde_json::from_str(&text).unwrap()).await.unwrap_err();
        assert!(matches!(error, HandedError::Ids(_)), "{text}");
    }
    assert_eq!(one.ids(1).await.unwrap(), first + 1);
    for text in [clock(0, 0, 0), clock(5, 0, 5), clock(4, 262_144, 5), ids(0, 0), ids(1, 1), ids(1, i64::MAX)] {
        one.in_hand.take_over(serde_json::from_str(&text).unwrap()).await.unwrap();
    }
}
