use super::*;

fn all() -> Interval {
    Interval { start: vec![0], end: End::Open }
}

fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let ((), entry) = store.write(|writing| writing.put(key.into(), value.into(), 0));
    entry.expect("a put is a change").revision
}

fn delete(store: &mut Store, key: &str) -> usize {
    store.write(|writing| writing.delete(&Interval::single(key.into())).len()).0
}

/// `key=value@create:mod:version` of each key.
fn at(store: &Store, revision: i64) -> Vec<String> {
    let shown = |kv: &Arc<PbKeyValue>| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (key, value) = (text(&kv.key), text(&kv.value));
        format!("{key}={value}@{}:{}:{}", kv.create_revision, kv.mod_revision, kv.version)
    };
    store.range(&all(), revision).map(shown).collect()
}

#[test]
fn the_first_write_is_revision_two() {
    let mut store = Store::default();
    assert_eq!((store.revision(), put(&mut store, "a", "1")), (1, 2));
}

#[test]
fn every_revision_can_be_read() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "a", "2");
    delete(&mut store, "a");
    put(&mut store, "a", "3");

    assert_eq!(at(&store, 1), Vec::<String>::new());
    assert_eq!(at(&store, 3), ["a=1@2:2:1", "b=1@3:3:1"]);
    assert_eq!(at(&store, 4), ["a=2@2:4:2", "b=1@3:3:1"]);
    assert_eq!(at(&store, 5), ["b=1@3:3:1"]);
    assert_eq!(at(&store, 6), ["a=3@6:6:1", "b=1@3:3:1"]);
}

#[test]
fn what_changes_nothing_is_no_revision() {
    let mut store = Store::default();
    assert_eq!(delete(&mut store, "a"), 0);
    assert_eq!(store.revision(), 1);
}

#[test]
fn all_changes_of_a_request_have_one_revision_which_it_sees_itself() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    let (seen, entry) = store.write(|writing| {
        writing.put("b".into(), "1".into(), 0);
        writing.delete(&Interval::single("a".into()));
        writing.store().range(&all(), writing.revision()).count()
    });
    let entry = entry.expect("it has changed something");
    assert_eq!((seen, entry.revision, entry.changes.len()), (1, 3, 2));
    assert_eq!((store.revision(), store.entries(3).count()), (3, 1));
}

#[test]
fn a_compaction_keeps_what_its_revision_and_later_ones_need() {
    let mut store = Store::default();
    for value in ["1", "2", "3"] {
        put(&mut store, "a", value);
    }
    put(&mut store, "b", "1");
    delete(&mut store, "b");
    put(&mut store, "c", "1");

    store.compact(3);
    assert_eq!(at(&store, 3), ["a=2@2:3:2"]);
    assert_eq!(at(&store, 2), Vec::<String>::new());
    assert_eq!(store.entries(0).map(|entry| entry.revision).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);

    store.compact(6);
    assert_eq!(at(&store, 7), ["a=3@2:4:3", "c=1@7:7:1"]);
    assert_eq!((store.count(), store.entries(0).count()), (2, 2));
}

#[test]
fn intervals_are_single_prefix_open_and_empty() {
    let interval = |key: &str, end: &str| Interval::new(key.into(), end.into());
    let mut store = Store::default();
    for key in ["a", "ab", "b", "c"] {
        put(&mut store, key, "");
    }
    let count = |interval: &Interval| store.range(interval, 5).filter(|kv| interval.contains(&kv.key)).count();
    assert_eq!(count(&interval("a", "")), 1);
    assert_eq!(count(&interval("a", "b")), 2);
    assert_eq!(count(&interval("ab", "\0")), 3);
    assert_eq!(count(&interval("\0", "\0")), 4);
    assert_eq!(count(&interval("b", "a")), 0);
    assert_eq!(count(&interval("b", "b")), 0);
}
