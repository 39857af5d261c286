use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{RenameFlags, renameat_with};
use tonic::{Code, Status};

use super::*;

/// One row of `.fvecs` with this component.
fn row(component: f32) -> Vec<u8> {
    [1_u32.to_le_bytes(), component.to_le_bytes()].concat()
}

/// `a/in`, `b/in`, `b/only` in two allowed folders, `out` beside them, and links.
fn folders() -> (tempfile::TempDir, DataDirs) {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for dir in ["a", "b", "ab"] {
        fs::create_dir(at(dir)).unwrap();
    }
    for file in ["a/in", "b/in", "b/only", "out", "ab/file"] {
        fs::write(at(file), row(1.0)).unwrap();
    }
    symlink(at("out"), at("a/leads_out")).unwrap();
    symlink(at("b/only"), at("a/leads_in")).unwrap();
    let dirs = DataDirs::new(vec![at("a"), at("b")]);
    (root, dirs)
}

#[test]
fn a_file_is_found_in_the_first_folder_that_has_it() {
    let (root, dirs) = folders();
    let real = root.path().canonicalize().unwrap();
    let cases = [("in", "a/in"), ("only", "b/only"), ("leads_in", "b/only"), ("../b/in", "b/in")];
    for (path, found) in cases {
        assert_eq!(dirs.open(Path::new(path)).unwrap().path(), real.join(found));
    }
    assert_eq!(dirs.open(&root.path().join("b/in")).unwrap().path(), real.join("b/in"));
}

#[test]
fn a_file_outside_is_refused_whatever_the_way_to_it() {
    let (root, dirs) = folders();
    let absolute = root.path().join("out");
    // `ab` begins like `a`, which must not count.
    let beside = root.path().join("ab/file");
    let open = File::open(&absolute).unwrap();
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    for path in [Path::new("leads_out"), Path::new("../out"), &absolute, &beside, &by_descriptor] {
        let error = dirs.open(path).unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    }
}

/// Ends the thread that swaps, also where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn links_that_are_swapped_all_the_while_never_lead_out() {
    let (root, dirs) = folders();
    let at = |name: &str| root.path().join(name);
    // The path goes now through a folder, now through a link of the same name to a folder outside.
    for dir in ["a/folder", "outside"] {
        fs::create_dir(at(dir)).unwrap();
    }
    fs::write(at("a/folder/file"), row(1.0)).unwrap();
    fs::write(at("outside/file"), row(666.0)).unwrap();
    symlink(at("outside"), at("a/link")).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, at("a/folder"), CWD, at("a/link"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _over = Over(&over);
        let (mut inside, mut refused, mut tries) = (0, 0, 0);
        while inside < 2000 || refused < 2000 {
            tries += 1;
            assert!(tries < 1_000_000, "only {inside} were opened, {refused} refused");
            match dirs.open(Path::new("folder/file")) {
                Ok(file) => {
                    inside += 1;
                    assert_eq!(file.into_blocks().next_block().unwrap(), Some(1_f32.to_ne_bytes().as_slice()));
                }
                Err(FileError::Outside { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn what_is_no_regular_file_is_refused_without_opening_it() {
    let (root, _) = folders();
    let dirs = DataDirs::new(vec![root.path().to_owned(), PathBuf::from("/dev")]);
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, root.path().join("pipe"), FileType::Fifo, mode, 0).unwrap();
    let _listener = UnixListener::bind(root.path().join("socket")).unwrap();
    for (path, kind) in [("a", "a folder"), ("pipe", "a pipe"), ("socket", "a socket"), ("zero", "a device")] {
        // A pipe that is opened waits for its writer, for ever.
        let error = dirs.open(Path::new(path)).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains(&format!("{kind}, and no regular file")), "{error}");
    }
}

#[test]
fn a_path_that_is_none_is_refused() {
    let (root, dirs) = folders();
    symlink("turn", root.path().join("a/turn")).unwrap();
    let long = "x".repeat(5000);
    let cases = [
        ("turn", Code::InvalidArgument, "symbolic links"),
        ("a\0b", Code::InvalidArgument, "cannot be read"),
        (&long, Code::InvalidArgument, "the path has 5000 bytes, at most 4096 are allowed"),
        ("in/none", Code::NotFound, "there is no such file"),
        ("", Code::InvalidArgument, "a folder"),
    ];
    for (path, code, text) in cases {
        let error = Status::from(dirs.open(Path::new(path)).unwrap_err());
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(text), "{error}");
    }
}

#[test]
fn a_file_that_is_nowhere_is_named() {
    let (_root, dirs) = folders();
    let error = dirs.open(Path::new("none.npy")).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.to_string().starts_with("none.npy: there is no such file"), "{error}");
}

#[test]
fn without_folders_the_key_is_named() {
    let error = DataDirs::default().open(Path::new("/etc/passwd")).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.to_string().contains("data_dirs"), "{error}");
}
