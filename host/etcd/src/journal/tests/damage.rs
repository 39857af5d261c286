//! What a crash may leave, and what it may not.

use super::*;

#[test]
fn wherever_a_write_was_cut_all_before_it_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    let (shown, begin) = (kept.shown(), to_usize(kept.journal.opened.offset));
    // Much of it is zeros, which is no sign of anything.
    kept.put(put("last", &"\0".repeat(4000), 0));
    let end = to_usize(kept.journal.opened.offset);
    drop(kept);
    let whole = std::fs::read(path(&directory, "journal.1")).expect("a journal");
    let sectors = (end - begin) / SECTOR;
    assert!(sectors > 7, "{sectors}");
    // Any of its sectors may have been written, but not all.
    for written in (0..1_usize << sectors).filter(|written| *written != (1 << sectors) - 1).step_by(3) {
        let mut torn = whole.clone();
        for sector in (0..sectors).filter(|sector| written >> sector & 1 == 0) {
            torn[begin + sector * SECTOR..][..SECTOR].fill(0);
        }
        std::fs::write(path(&directory, "journal.1"), &torn).expect("it can be written");
        let mut kept = Kept::open(&directory);
        assert_eq!(kept.shown(), shown, "{written:b}");
        // It goes on from there.
        kept.put(put("next", "1", 0));
        let shown = kept.shown();
        drop(kept);
        assert_eq!(Kept::open(&directory).shown(), shown, "{written:b}");
        let cut = path(&directory, &format!("journal.1.cut-{begin}"));
        match written {
            0 => assert!(!cut.exists(), "nothing was cut off"),
            _ => {
                let kept = std::fs::read(&cut).expect("what was cut off is kept");
                assert_eq!(kept, torn[begin..begin + kept.len()]);
                assert!(torn[begin + kept.len()..].iter().all(|byte| *byte == 0), "all of it");
                std::fs::remove_file(cut).expect("it is there");
            }
        }
    }
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    kept.rewrite();
    kept.put(put("last", &"\0".repeat(1000), 0));
    let written = to_usize(kept.journal.opened.offset);
    drop(kept);
    for name in ["base.2", "journal.2"] {
        let path = path(&directory, name);
        let bytes = std::fs::read(&path).expect("a file");
        for offset in 0..bytes.len().min(written) {
            let mut changed = bytes.clone();
            changed[offset] ^= 0x10;
            std::fs::write(&path, &changed).expect("it can be written");
            let refused = Kept::try_open(&directory).err().unwrap_or_else(|| panic!("byte {offset} was not missed"));
            let DataError::Damaged { offset: found, path: named, .. } = refused else { panic!("{refused}") };
            assert!(found <= offset as u64 && named == path, "{offset}: {found} {named:?}");
        }
        std::fs::write(&path, &bytes).expect("it can be written");
    }
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    kept.rewrite();
    for value in ["1", "2"] {
        kept.put(put("last", &value.repeat(2000), 0));
    }
    let written = to_usize(kept.journal.opened.offset);
    drop(kept);
    for name in ["base.2", "journal.2"] {
        let path = path(&directory, name);
        let bytes = std::fs::read(&path).expect("a file");
        let content = bytes.len().min(written);
        for length in (0..=content).step_by(SECTOR / 4).filter(|length| *length < bytes.len()) {
            std::fs::write(&path, &bytes[..length]).expect("it can be written");
            let refused = Kept::try_open(&directory).err().unwrap_or_else(|| panic!("{length} of {name} were enough"));
            assert!(matches!(&refused, DataError::Damaged { path: named, .. } if *named == path), "{refused}");
        }
        std::fs::write(&path, &bytes).expect("it can be written");
    }
}

#[test]
fn a_base_that_ends_between_two_frames_is_not_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::open(&directory);
    for key in ["a", "b", "c"] {
        kept.put(put(key, &"x".repeat(1 << 20), 0));
    }
    kept.rewrite();
    drop(kept);
    let path = path(&directory, "base.2");
    let bytes = std::fs::read(&path).expect("a base");
    let frames: Vec<_> = (0..bytes.len()).step_by(SECTOR).filter(|at| bytes[*at] == 1).collect();
    assert!(frames.len() > 2, "{frames:?}");
    for end in frames {
        std::fs::write(&path, &bytes[..end]).expect("it can be written");
        let refused = Kept::try_open(&directory).err().unwrap_or_else(|| panic!("{end} were enough"));
        assert!(matches!(&refused, DataError::Damaged { damage: Damage::Short, .. }), "{refused}");
    }
}

#[test]
fn a_frame_that_is_missing_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::open(&directory);
    let ends = ["1", "2", "3"].map(|value| {
        kept.put(put("a", value, 0));
        to_usize(kept.journal.opened.offset)
    });
    drop(kept);
    let path = path(&directory, "journal.1");
    let bytes = std::fs::read(&path).expect("a journal");
    let without = [&bytes[..ends[0]], &bytes[ends[1]..]].concat();
    std::fs::write(&path, without).expect("it can be written");
    let refused = Kept::try_open(&directory).err().expect("a revision is missing");
    assert!(matches!(refused, DataError::Damaged { damage: Damage::Content, .. }), "{refused}");
    // Emptied, it is no unfinished write: another came after it.
    let mut emptied = bytes;
    emptied[ends[0]..ends[1]].fill(0);
    std::fs::write(&path, emptied).expect("it can be written");
    let refused = Kept::try_open(&directory).err().expect("a revision is missing");
    let DataError::Damaged { damage: Damage::Hole, offset, .. } = refused else { panic!("{refused}") };
    assert_eq!(to_usize(offset), ends[0]);
}

/// The end of an earlier journal is known by the one that follows.
#[test]
fn an_earlier_journal_may_not_end_unfinished() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    let before = to_usize(kept.journal.opened.offset);
    kept.put(put("last", &"x".repeat(2000), 0));
    let end = to_usize(kept.journal.opened.offset);
    without_a_base(&directory, &mut kept);
    drop(kept);
    let first = path(&directory, "journal.1");
    let bytes = std::fs::read(&first).expect("a journal");
    for (from, named) in [(end - SECTOR, "journal.1"), (before, "journal.2")] {
        let mut emptied = bytes.clone();
        emptied[from..end].fill(0);
        std::fs::write(&first, emptied).expect("it can be written");
        let refused = Kept::try_open(&directory).err().expect("a write is missing");
        let named = path(&directory, named);
        assert!(matches!(&refused, DataError::Damaged { path, .. } if *path == named), "{refused}");
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = with_history(&directory);
    without_a_base(&directory, &mut kept);
    without_a_base(&directory, &mut kept);
    drop(kept);
    assert_eq!(files(&directory), ["base.1", "cluster", "journal.1", "journal.2", "journal.3", "lock"]);
    for name in ["base.1", "journal.1", "journal.2", "journal.3"] {
        let (missing, aside) = (path(&directory, name), directory.path().join("aside"));
        std::fs::rename(&missing, &aside).expect("it is there");
        let before = files(&directory);
        let refused = Kept::try_open(&directory).err().unwrap_or_else(|| panic!("{name} was not missed"));
        assert!(refused.to_string().starts_with(&format!("{} is missing", missing.display())), "{refused}");
        assert_eq!(files(&directory), before, "nothing was touched");
        std::fs::rename(&aside, &missing).expect("it is aside");
    }
    for name in ["base.1", "journal.1", "journal.2", "journal.3"] {
        std::fs::remove_file(path(&directory, name)).expect("it is there");
    }
    let refused = Kept::try_open(&directory).err().expect("it was begun once");
    assert!(matches!(refused, DataError::Missing { .. }), "{refused}");
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(with_history(&directory));
    for (name, content) in [("journal.1", &b""[..]), ("journal.1", &[0; 4096]), ("base.1", &[b'#'; 4096])] {
        let path = path(&directory, name);
        let bytes = std::fs::read(&path).expect("a file");
        std::fs::write(&path, content).expect("it can be written");
        let refused = Kept::try_open(&directory).err().expect("it is none");
        assert!(matches!(&refused, DataError::Damaged { path: named, offset: 0, .. } if *named == path), "{refused}");
        std::fs::write(&path, bytes).expect("it can be written");
    }
}

/// The next journal begins, and no base can be written before it.
fn without_a_base(directory: &TempDir, kept: &mut Kept) {
    let taken = path(directory, &format!("base.{}.new", kept.journal.opened.number + 1));
    std::fs::create_dir(&taken).expect("it is free");
    kept.rewrite();
    std::fs::remove_dir(taken).expect("it is there");
}

fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).expect("it is small")
}
