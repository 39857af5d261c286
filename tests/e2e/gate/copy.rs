//! The private copy.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use componenthost::plugin::copy::private_copy;
use componenthost::plugin::gate::handshake::Loaded;
use plugin_api::error::chain;

use super::bench::{Bench, names, set_mode};

#[test]
fn a_copy_is_a_file_of_its_own_in_a_private_directory() {
    let bench = Bench::new();
    let (path, dir) = (bench.c("exits"), bench.path("copies"));
    let admitted = bench.inspect(&path).expect("a plugin");
    let copy = private_copy(&admitted, &dir, 7).expect("a copy");
    let name = copy.path().file_name().expect("a name").to_string_lossy().into_owned();
    names(&name, &["libexits.", &admitted.sha256.short(), ".g7."]);
    let inode = |path| fs::metadata(path).expect("a file").ino();
    assert_ne!(inode(copy.path()), inode(&path));
    assert_eq!(fs::metadata(&dir).expect("a directory").permissions().mode() & 0o7777, 0o700);
    let kept = copy.path().to_owned();
    drop(copy);
    assert!(!kept.exists(), "a dropped copy is unlinked");
}

#[test]
fn two_generations_of_one_file_are_two_libraries() {
    let bench = Bench::new();
    let admitted = bench.inspect(&bench.smallest()).expect("a plugin");
    let addresses = [1, 2].map(|generation| {
        let copy = private_copy(&admitted, &bench.path("copies"), generation).expect("a copy");
        let path = copy.verified_path().expect("it is as it was written");
        Loaded::open(path, &admitted.entry_symbol).expect("it opens").entry_address()
    });
    assert_ne!(addresses[0], addresses[1]);
}

#[test]
fn a_file_that_is_written_into_after_it_was_looked_at_changes_nothing() {
    let bench = Bench::new();
    let path = bench.c("exits");
    let admitted = bench.inspect(&path).expect("a plugin");
    fs::write(&path, "something else").expect("it is written into");
    let copy = private_copy(&admitted, &bench.path("copies"), 1).expect("a copy of what was looked at");
    let loaded = Loaded::open(copy.verified_path().expect("as it was written"), &admitted.entry_symbol);
    loaded.expect("what passed the gate opens");
}

#[test]
fn a_path_that_is_exchanged_after_it_was_looked_at_changes_nothing() {
    let bench = Bench::new();
    let path = bench.c("exits");
    let admitted = bench.inspect(&path).expect("a plugin");
    fs::rename(bench.c("aborts"), &path).expect("the path is exchanged");
    let copy = private_copy(&admitted, &bench.path("copies"), 1).expect("a copy of what was looked at");
    assert_eq!(copy.verified_path().expect("the same content"), copy.path());
}

#[test]
fn a_copy_that_was_changed_is_not_opened() {
    let bench = Bench::new();
    let admitted = bench.inspect(&bench.c("exits")).expect("a plugin");
    let copy = private_copy(&admitted, &bench.path("copies"), 1).expect("a copy");
    fs::write(copy.path(), "something else").expect("it is written into");
    names(&chain(&copy.verified_path().expect_err("it changed")), &["changed", &admitted.sha256.to_string()]);
}

#[test]
fn a_directory_for_copies_that_others_can_enter_or_move() {
    let bench = Bench::new();
    let admitted = bench.inspect(&bench.c("exits")).expect("a plugin");
    let refusal = |dir: &Path| chain(&private_copy(&admitted, dir, 1).expect_err("not private"));
    names(&refusal(&bench.subdir("open", 0o750)), &["not private", "0700", "0750"]);
    let link = bench.path("link");
    symlink(bench.subdir("private", 0o700), &link).expect("a link");
    names(&refusal(&link), &["not private"]);
    let shared = bench.subdir("shared", 0o777);
    let below = shared.join("copies");
    names(&refusal(&below), &["shared can be written by everybody"]);
    set_mode(&shared, 0o755);
    private_copy(&admitted, &below, 1).expect("the same directory, now that only its owner writes above it");
}
