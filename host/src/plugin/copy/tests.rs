use std::process::Command;

use plugin_api::error::chain;
use plugin_api::identity::Role;

use super::*;
use crate::plugin::gate::handshake::Loaded;
use crate::plugin::gate::{Allowed, GateError, PluginsConfig, elf, inspect};

/// An entry that leads to nothing: enough to be let in and opened.
const PLUGIN: &str = "const void *componenthost_plugin_bare(void) { return 0; }";

/// A directory with the plugin as a debug build.
fn debug_build() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (source, library) = (dir.path().join("bare.c"), dir.path().join("libbare.so"));
    fs::write(&source, PLUGIN).expect("a file is written");
    let compiled = Command::new("cc").args(["-g3", "-shared", "-fPIC"]).arg(&source).arg("-o").arg(&library).status();
    assert!(compiled.expect("a C compiler").success());
    (dir, library)
}

fn look(dir: &Path, path: &Path) -> Result<Admitted, GateError> {
    let config = PluginsConfig { dirs: vec![dir.to_owned()], ..PluginsConfig::default() };
    inspect(path, &config, &Allowed { role: Role::new("bare").expect("a role"), version: None, sha256: None })
}

#[test]
fn a_copy_has_what_is_mapped_and_opens() {
    let (dir, path) = debug_build();
    let admitted = look(dir.path(), &path).expect("a plugin");
    let copy = private_copy(&admitted, &dir.path().join("copies"), 1).expect("a copy");
    let bytes = fs::read(copy.path()).expect("a file");
    assert_eq!(bytes.len() as u64, admitted.mapped.file_end);
    assert!(admitted.mapped.file_end < admitted.size, "{admitted:?}");
    assert!(bytes[40..48].iter().chain(&bytes[60..64]).all(|byte| *byte == 0), "it tells of sections");
    let read = elf::read(&bytes).expect("a whole shared object");
    assert_eq!(
        (&read.entry_symbol, &read.exported, read.mapped),
        (&admitted.entry_symbol, &admitted.exported, admitted.mapped)
    );

    let loaded =
        Loaded::open(copy.verified_path().expect("as it was written"), &admitted.entry_symbol).expect("it opens");
    let refused = loaded.header().map(drop).expect_err("its entry runs, and gives nothing");
    assert!(refused.to_string().contains("returns no header"), "{refused}");
}

#[test]
fn a_copy_that_was_changed_is_told() {
    let (dir, path) = debug_build();
    let admitted = look(dir.path(), &path).expect("a plugin");
    let copy = private_copy(&admitted, &dir.path().join("copies"), 1).expect("a copy");
    fs::write(copy.path(), "something else").expect("it is written into");
    let text = chain(&copy.verified_path().expect_err("it changed"));
    assert!(text.contains("private copy") && text.contains(&admitted.sha256.to_string()), "{text}");
}

#[test]
fn a_segment_that_is_not_in_the_file_is_refused_before_it_is_copied() {
    let (dir, path) = debug_build();
    let whole = fs::read(&path).expect("a file");
    // The first segment's header begins behind the file's; its offset is at 8, its size in the file at 32.
    for (at, name) in [(64 + 8, "libshifted.so"), (64 + 32, "liblong.so")] {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_ne_bytes());
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("a file is written");
        let text = chain(&look(dir.path(), &path).expect_err("it is truncated"));
        assert!(text.contains("truncated: segment 0 ends at byte"), "{text}");
    }
}
