use super::*;

const IDENTITY: Identity = Identity { cluster_id: 1, member_id: 2, raft_term: 3 };

fn watcher(next: i64) -> Watcher {
    Watcher {
        id: 0,
        interval: Interval::new(b"a".into(), b"b".into()),
        next,
        filters: Filters::default(),
        prev_kv: false,
        fragment: false,
        progress: false,
        quiet: true,
        live: false,
        ended: false,
    }
}

fn store(puts: i64) -> Store {
    let mut store = Store::default();
    for _ in 0..puts {
        store.write(|writing| writing.put(b"a".into(), vec![], 0));
    }
    store
}

/// The header's revision and the events' revisions of each answer.
fn tell(watcher: &mut Watcher, store: &Store) -> Vec<(i64, Vec<i64>)> {
    let visible = Visible { revision: store.revision(), compacted: store.compacted() };
    let shown = |answer: PbWatchResponse| {
        let revisions = answer.events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)).collect();
        (answer.header.map_or(0, |header| header.revision), revisions)
    };
    watcher.tell(store, visible, &IDENTITY).into_iter().map(shown).collect()
}

#[test]
fn the_past_comes_in_one_answer_and_each_later_revision_in_its_own() {
    let (mut store, mut watcher) = (store(3), watcher(2));
    assert_eq!(tell(&mut watcher, &store), [(4, vec![2, 3, 4])]);
    for _ in 0..2 {
        store.write(|writing| writing.put(b"a".into(), vec![], 0));
    }
    assert_eq!(tell(&mut watcher, &store), [(5, vec![5]), (6, vec![6])]);
    assert_eq!(tell(&mut watcher, &store), []);
}

#[test]
fn a_long_past_comes_in_several_answers_without_a_gap() {
    let (store, mut watcher) = (store(2500), watcher(2));
    let told: Vec<_> = std::iter::from_fn(|| tell(&mut watcher, &store).pop()).collect();
    assert_eq!(told.iter().map(|(_, revisions)| revisions.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
    let revisions: Vec<_> = told.into_iter().flat_map(|(_, revisions)| revisions).collect();
    assert_eq!(revisions, (2..=2501).collect::<Vec<_>>());
}

#[test]
fn a_future_revision_is_waited_for() {
    let (mut store, mut watcher) = (store(1), watcher(4));
    assert_eq!(tell(&mut watcher, &store), []);
    for _ in 0..2 {
        store.write(|writing| writing.put(b"a".into(), vec![], 0));
    }
    assert_eq!(tell(&mut watcher, &store), [(4, vec![4])]);
}

#[test]
fn what_was_compacted_ends_a_watch_once() {
    let (mut store, mut watcher) = (store(5), watcher(3));
    store.compact(4);
    let visible = Visible { revision: store.revision(), compacted: store.compacted() };
    let told = watcher.tell(&store, visible, &IDENTITY);
    assert_eq!(told.iter().map(|answer| (answer.canceled, answer.compact_revision)).collect::<Vec<_>>(), [(true, 4)]);
    assert_eq!(watcher.tell(&store, visible, &IDENTITY), []);
}

#[test]
fn a_watch_that_waits_in_the_present_is_not_ended_by_a_compaction() {
    let (mut store, mut watcher) = (store(3), watcher(5));
    assert_eq!(tell(&mut watcher, &store), []);
    store.compact(4);
    store.write(|writing| writing.put(b"a".into(), vec![], 0));
    assert_eq!(tell(&mut watcher, &store), [(5, vec![5])]);
}

#[test]
fn large_revisions_come_in_several_answers_without_a_gap() {
    let (mut store, mut watcher) = (Store::default(), watcher(2));
    for _ in 0..20 {
        store.write(|writing| writing.put(b"a".into(), vec![7; 1 << 20], 0));
    }
    let told: Vec<_> = std::iter::from_fn(|| tell(&mut watcher, &store).pop()).collect();
    assert_eq!(told.iter().map(|(_, revisions)| revisions.len()).collect::<Vec<_>>(), [8, 8, 4]);
    let revisions: Vec<_> = told.into_iter().flat_map(|(_, revisions)| revisions).collect();
    assert_eq!(revisions, (2..=21).collect::<Vec<_>>());
}
