//! What is refused for the file itself.

use std::fs;
use std::path::Path;

use componenthost::plugin::gate::{Digest, find};
use plugin_api::error::chain;

use super::bench::{Bench, names};

/// A plugin's bytes, changed, as another file.
fn changed(bench: &Bench, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = fs::read(bench.c("aborts")).expect("a shared object");
    change(&mut bytes);
    bench.refusal(&bench.file(name, bytes))
}

#[test]
fn a_plugin_that_is_nowhere_is_told_with_all_places() {
    let dirs = ["/nowhere/a", "/nowhere/b"].map(Into::into);
    let text = chain(&find(Path::new("querynode"), &dirs).expect_err("it is not there"));
    names(&text, &["querynode", "/nowhere/a/libquerynode.so", "/nowhere/b/libquerynode.so"]);
    names(&chain(&find(Path::new("./x.so"), &dirs).expect_err("it is not there")), &["looked at ./x.so"]);
    names(&chain(&find(Path::new("querynode"), &[]).expect_err("no directories")), &["plugins.dirs"]);
}

#[test]
fn the_first_directory_that_has_it_wins() {
    let bench = Bench::new();
    let dirs = ["a", "b", "c"].map(|name| bench.subdir(name, 0o755));
    for dir in &dirs[1..] {
        fs::write(dir.join("libquerynode.so"), "").expect("a file is written");
    }
    assert_eq!(find(Path::new("querynode"), &dirs).expect("it is there"), dirs[1].join("libquerynode.so"));
}

#[test]
fn a_pinned_hash_that_differs() {
    let mut bench = Bench::new();
    let path = bench.c("aborts");
    let found = Digest::of(&fs::read(&path).expect("a shared object"));
    bench.allowed.sha256 = Some(found);
    assert_eq!(bench.inspect(&path).expect("the pinned file").sha256, found);
    bench.allowed.sha256 = Some(Digest::of(b"another"));
    let pinned = Digest::of(b"another").to_string();
    names(&bench.refusal(&path), &["pins", &pinned, &found.to_string()]);
}

#[test]
fn a_text_file() {
    let bench = Bench::new();
    names(&bench.refusal(&bench.file("libtext.so", "a text")), &["libtext.so", "not an ELF file", "61 20 74 65"]);
}

#[test]
fn another_machines_object() {
    let bench = Bench::new();
    let text = changed(&bench, "libarm.so", |bytes| bytes[18..20].copy_from_slice(&183_u16.to_le_bytes()));
    names(&text, &["machine: expected", std::env::consts::ARCH, "found aarch64"]);
}

#[test]
fn an_executable_of_either_kind() {
    let bench = Bench::new();
    let fixed = bench.cc("executable", "fixed", &["-no-pie", "-rdynamic"]);
    names(&bench.refusal(&fixed), &["expected a shared object, found an executable", "cdylib"]);
    let moving = bench.cc("executable", "moving", &["-pie", "-fPIE", "-rdynamic"]);
    names(&bench.refusal(&moving), &["found a position-independent executable"]);
}

#[test]
fn an_object_that_is_not_linked() {
    let bench = Bench::new();
    names(&bench.refusal(&bench.cc("aborts", "aborts.o", &["-c", "-fPIC"])), &["an object file that is not linked"]);
}

#[test]
fn a_truncated_object_wherever_it_ends() {
    let bench = Bench::new();
    let whole = fs::read(bench.c("aborts")).expect("a shared object").len();
    for (size, part) in [(10, "header"), (80, "table of segments"), (whole / 2, "segment"), (whole - 1, "sections")] {
        let text = changed(&bench, "libshort.so", |bytes| bytes.truncate(size));
        names(&text, &["truncated", part, &format!("the file has {size}")]);
    }
}

#[test]
fn an_object_without_an_entry() {
    let bench = Bench::new();
    for fixture in ["plain", "hidden"] {
        names(&bench.refusal(&bench.c(fixture)), &["no symbol that begins with componenthost_plugin_", "macro"]);
    }
}

#[test]
fn an_object_with_two_entries() {
    let bench = Bench::new();
    let text = bench.refusal(&bench.c("two"));
    names(&text, &["more than one plugin", "componenthost_plugin_one, componenthost_plugin_two"]);
}
