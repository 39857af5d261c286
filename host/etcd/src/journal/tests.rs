use etcd_client::proto::{PbCompactionRequest, PbDeleteRequest, PbPutRequest};
use tempfile::TempDir;

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

fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("data/journal")
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
fn a_rewritten_journal_says_the_same() {
    for compaction in [None, Some(3), Some(5), Some(7)] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kept = with_history(&directory);
        if let Some(revision) = compaction {
            kept.compact(revision);
        }
        kept.journal.rewrite(&kept.identity, &kept.machine).expect("the disk has room");
        kept.put(put("d", "after it", 1));
        let shown = kept.shown();
        drop(kept);
        assert_eq!(Kept::open(&directory).shown(), shown, "{compaction:?}");
    }
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
fn wherever_a_write_was_cut_all_before_it_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    let (shown, whole) = (kept.shown(), kept.journal.size());
    kept.put(put("last", &"x".repeat(2000), 0));
    drop(kept);
    let bytes = std::fs::read(path(&directory)).expect("a journal");
    let whole = usize::try_from(whole).expect("it is small");
    // The file may have grown already: then what a disk had not written is empty, whole sectors of it.
    let sectors = (whole.next_multiple_of(512)..bytes.len()).step_by(512);
    let cuts = (whole..bytes.len()).step_by(37).map(|cut| (cut, cut)).chain(sectors.map(|cut| (cut, bytes.len())));
    for (cut, length) in cuts {
        let mut torn = bytes[..cut].to_vec();
        torn.resize(length, 0);
        std::fs::write(path(&directory), &torn).expect("it can be written");
        assert_eq!(Kept::open(&directory).shown(), shown, "{cut} {length}");
    }
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(with_history(&directory));
    let bytes = std::fs::read(path(&directory)).expect("a journal");
    for offset in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[offset] ^= 0x10;
        std::fs::write(path(&directory), &changed).expect("it can be written");
        let refused = Kept::try_open(&directory).err().unwrap_or_else(|| panic!("byte {offset} was not missed"));
        let DataError::Damaged { offset: found, path: named, .. } = refused else { panic!("{refused}") };
        assert!(found <= offset as u64 && named == path(&directory), "{offset}: {found} {named:?}");
    }
}

#[test]
fn a_frame_that_is_missing_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::open(&directory);
    let sizes = ["1", "2", "3"].map(|value| {
        kept.put(put("a", value, 0));
        usize::try_from(kept.journal.size()).expect("it is small")
    });
    drop(kept);
    let bytes = std::fs::read(path(&directory)).expect("a journal");
    let without = [&bytes[..sizes[0]], &bytes[sizes[1]..]].concat();
    std::fs::write(path(&directory), without).expect("it can be written");
    let refused = Kept::try_open(&directory).err().expect("a revision is missing");
    assert!(matches!(refused, DataError::Damaged { damage: Damage::Content, .. }), "{refused}");
}
