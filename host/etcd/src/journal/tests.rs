mod damage;

use etcd_client::proto::{PbCompactionRequest, PbDeleteRequest, PbPutRequest};
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;

fn put(key: &str, value: &str, lease: i64) -> PbPutRequest {
    PbPutRequest { key: key.into(), value: value.into(), lease, ..PbPutRequest::default() }
}

/// A machine and its journal, as the engine has them.
struct Kept {
    journal: Journal,
    identity: Identity,
    machine: Machine,
}

impl Kept {
    fn open(directory: &TempDir) -> Self {
        Self::try_open(directory).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_open(directory: &TempDir) -> Result<Self, DataError> {
        let (journal, identity, machine) = Journal::open(&directory.path().join("data"), None)?;
        Ok(Self { journal, identity, machine })
    }

    fn keep(&mut self, effect: &Effect) {
        let mut bytes = Vec::new();
        encode(effect, &mut bytes);
        self.journal.append(&bytes).expect("the disk has room");
    }

    fn put(&mut self, request: PbPutRequest) {
        let effect = self.machine.put(request).expect("a put").1.expect("a put is a change");
        self.keep(&effect);
    }

    fn compact(&mut self, revision: i64) {
        let request = PbCompactionRequest { revision, ..PbCompactionRequest::default() };
        let effect = self.machine.compact(&request).expect("a compaction");
        self.machine.compacted(revision);
        self.keep(&effect);
    }

    /// Begins another base, and does not wait for it.
    fn begin_rewrite(&mut self) {
        let image = Image::of(&self.identity, &self.machine);
        self.journal.rewrite(image).expect("the last one stays in use");
    }

    fn rewrite(&mut self) {
        self.begin_rewrite();
        let thread = self.journal.rewriting.take().expect("it was begun");
        self.journal.rewritten(thread);
    }

    /// All that can be read of it.
    fn shown(&self) -> String {
        let (store, lessor) = (self.machine.store(), self.machine.lessor());
        let all = crate::store::Interval::new(vec![0], vec![0]);
        let ids = [self.identity.cluster_id, self.identity.member_id];
        let mut shown = format!("{ids:?} {} {}\n", store.revision(), store.compacted());
        for revision in store.compacted().max(0)..=store.revision() {
            shown += &format!("{revision} {:?}\n", store.range(&all, revision).collect::<Vec<_>>());
        }
        shown += &format!("{:?}\n", store.entries(0).collect::<Vec<_>>());
        shown += &format!("{} bytes, {} of them in the log\n", store.bytes(), store.logged());
        let mut leases: Vec<_> = lessor.ids().filter_map(|id| Some((id, lessor.get(id)?))).collect();
        leases.sort_by_key(|(id, _)| *id);
        leases.iter().for_each(|(id, lease)| shown += &format!("{id} {} {:?}\n", lease.ttl, lease.keys));
        shown
    }
}

fn with_history(directory: &TempDir) -> Kept {
    let mut kept = Kept::open(directory);
    for id in [1, 2] {
        let effect = kept.machine.grant(id, 60, Instant::now()).expect("a new id").2;
        kept.keep(&effect);
    }
    for request in [put("a", "1", 0), put("b", "1", 1), put("c", "1", 2), put("a", "2", 1), put("a", "3", 0)] {
        kept.put(request);
    }
    let request = PbDeleteRequest { key: "c".into(), ..PbDeleteRequest::default() };
    let effect = kept.machine.delete(request).1.expect("it was there");
    kept.keep(&effect);
    let effect = kept.machine.revoke(2).expect("it is there");
    kept.keep(&effect);
    kept
}

fn path(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join("data").join(name)
}

/// The names of the directory's files, in order.
fn files(directory: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(directory.path().join("data")).expect("a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name().into_string();
    let mut names: Vec<_> = entries.map(|entry| name(entry).expect("a plain name")).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_start_finds_what_was_there_and_counts_another_term() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    for compaction in [None, Some(4), Some(7)] {
        if let Some(revision) = compaction {
            kept.compact(revision);
        }
        let (shown, term) = (kept.shown(), kept.identity.raft_term);
        drop(kept);
        kept = Kept::open(&directory);
        assert_eq!(kept.shown(), shown);
        assert_eq!(kept.identity.raft_term, term + 1);
    }
}

#[test]
fn a_journal_grows_over_many_times_its_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::open(&directory);
    let large = "x".repeat(usize::try_from(ROOM).expect("it is small") / 3);
    for _ in 0..10 {
        kept.put(put("a", &large, 0));
    }
    let length = kept.journal.opened.length;
    assert!(length > 3 * ROOM && length.is_multiple_of(ROOM), "{length}");
    // One that would fill it to its end: something empty has to follow.
    let sectors = usize::try_from(length - kept.journal.opened.offset).expect("it is small") / SECTOR;
    kept.put(put("a", &"x".repeat((sectors - 1) * (SECTOR - 1) + SECTOR / 2), 0));
    assert_eq!(kept.journal.opened.offset, length);
    assert_eq!(kept.journal.opened.length, length + ROOM);
    let shown = kept.shown();
    drop(kept);
    assert_eq!(Kept::open(&directory).shown(), shown);
}

#[test]
fn another_base_says_the_same_and_leaves_nothing_of_before() {
    for compaction in [None, Some(3), Some(5), Some(7)] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kept = with_history(&directory);
        if let Some(revision) = compaction {
            kept.compact(revision);
        }
        kept.rewrite();
        kept.put(put("d", "after it", 1));
        let shown = kept.shown();
        assert_eq!(files(&directory), ["base.2", "cluster", "journal.2", "lock"]);
        drop(kept);
        assert_eq!(Kept::open(&directory).shown(), shown, "{compaction:?}");
    }
}

#[test]
fn a_base_is_written_where_journals_are_large_beside_the_last_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::open(&directory);
    let large = "x".repeat(1 << 20);
    let mut puts = 0;
    while !kept.journal.is_large() {
        kept.put(put(&format!("{puts}"), &large, 0));
        puts += 1;
    }
    assert_eq!(puts, 16, "less is not worth it");
    kept.begin_rewrite();
    assert!(!kept.journal.is_large(), "one at a time");
    let thread = kept.journal.rewriting.take().expect("it was begun");
    kept.journal.rewritten(thread);
    // Nothing was compacted, so that the base is as large as what it replaces: the next one comes at twice that.
    while !kept.journal.is_large() {
        kept.put(put("again", &large, 0));
        puts += 1;
    }
    assert!((16 + 32..=16 + 36).contains(&puts), "{puts}");
}

/// The next journal is in use before the base is there, and a crash may come between.
#[test]
fn a_base_that_was_not_finished_is_not_missed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    // Its place is taken, so that it cannot be written.
    std::fs::create_dir(path(&directory, "base.2.new")).expect("it is free");
    kept.journal.not_below = 0;
    assert!(kept.journal.is_large());
    kept.rewrite();
    assert!(!kept.journal.is_large(), "it is not tried again at once");
    kept.put(put("d", "after it", 1));
    let shown = kept.shown();
    assert_eq!(files(&directory), ["base.1", "base.2.new", "cluster", "journal.1", "journal.2", "lock"]);
    drop(kept);
    std::fs::remove_dir(path(&directory, "base.2.new")).expect("it is there");
    let mut kept = Kept::open(&directory);
    assert_eq!(kept.shown(), shown);
    kept.rewrite();
    assert_eq!(files(&directory), ["base.3", "cluster", "journal.3", "lock"]);
    drop(kept);
    assert_eq!(Kept::open(&directory).shown(), shown);
}

/// A crash may come before what is not needed any more is removed, and while something is written.
#[test]
fn what_is_left_over_is_removed_by_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    let former = ["base.1", "journal.1"].map(|name| std::fs::read(path(&directory, name)).expect("a file"));
    kept.rewrite();
    let shown = kept.shown();
    drop(kept);
    for (name, content) in ["base.1", "journal.1"].into_iter().zip(former) {
        std::fs::write(path(&directory, name), content).expect("it can be written");
    }
    std::fs::write(path(&directory, "base.3.new"), "half of it").expect("it can be written");
    std::fs::write(path(&directory, "journal.1.cut-512"), "of a crash before").expect("it can be written");
    assert_eq!(Kept::open(&directory).shown(), shown);
    assert_eq!(files(&directory), ["base.2", "cluster", "journal.2", "lock"]);
}

/// A base that a disk has no room for leaves what there was of it to others.
#[test]
fn what_was_written_of_a_base_is_removed_where_it_is_not_finished() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    kept.journal.stop.store(true, Ordering::Relaxed);
    kept.rewrite();
    assert_eq!(files(&directory), ["base.1", "cluster", "journal.1", "journal.2", "lock"]);
    let shown = kept.shown();
    drop(kept);
    assert_eq!(Kept::open(&directory).shown(), shown);
}

#[test]
fn a_journal_that_cannot_be_begun_leaves_the_last_one_in_use() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    // Before it has its name, and after.
    for taken in ["journal.2.new", "cluster.new"] {
        std::fs::create_dir(path(&directory, taken)).expect("it is free");
        let image = Image::of(&kept.identity, &kept.machine);
        let rewritten = kept.journal.rewrite(image);
        assert!(kept.journal.rewriting.is_none());
        std::fs::remove_dir(path(&directory, taken)).expect("it is there");
        // A folder in a file's place is more than can be taken back.
        assert_eq!(rewritten.is_ok(), taken == "cluster.new");
        kept.put(put("d", "after it", 1));
    }
    assert_eq!(files(&directory), ["base.1", "cluster", "journal.1", "lock"]);
    let shown = kept.shown();
    drop(kept);
    assert_eq!(Kept::open(&directory).shown(), shown);
}

#[test]
fn a_second_process_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let kept = Kept::open(&directory);
    let refused = Kept::try_open(&directory).err().expect("it is held").to_string();
    let data = directory.path().join("data");
    assert_eq!(refused, format!("the data directory {} is in use by process {}", data.display(), std::process::id()));
    drop(kept);
    Kept::open(&directory);
}

#[test]
fn a_first_start_that_was_interrupted_begins_again() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(Kept::open(&directory));
    for missing in ["cluster", "base.1"] {
        std::fs::remove_file(path(&directory, missing)).expect("it is there");
        let begun = Kept::open(&directory);
        assert_eq!(begun.machine.store().revision(), 1);
        assert_eq!(files(&directory), ["base.1", "cluster", "journal.1", "lock"]);
        drop(begun);
        std::fs::remove_file(path(&directory, "cluster")).expect("it is there");
    }
}
