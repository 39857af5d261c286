//! What is refused for the place that the file lies in.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use componenthost::plugin::gate::place::{PlaceRules, open_checked};

use super::bench::{Bench, names, set_mode};

/// A plugin in a directory of this mode.
fn plugin_in(bench: &Bench, mode: u32) -> (PathBuf, PathBuf) {
    let dir = bench.subdir("plugins", 0o700);
    let path = dir.join("libplugin.so");
    fs::copy(bench.c("aborts"), &path).expect("a copy");
    set_mode(&path, 0o644);
    set_mode(&dir, mode);
    (dir, path)
}

/// The refusal where this entry belongs to somebody else. Only root can give files away; for any other user the host is
/// taken to be somebody else instead.
fn refusal_of_foreign(bench: &Bench, entry: &Path, path: &Path) -> String {
    let own = rustix::process::geteuid().as_raw();
    let host_uid = if own == 0 {
        chown(entry, Some(65534), None).expect("root gives files away");
        own
    } else {
        own + 1
    };
    let rules = PlaceRules { dirs: &bench.config.dirs, trusted_root: entry, host_uid };
    open_checked(path, &rules).expect_err("the place is refused").to_string()
}

#[test]
fn a_place_that_only_the_owner_can_write() {
    let bench = Bench::new();
    let (_, path) = plugin_in(&bench, 0o755);
    assert_eq!(bench.inspect(&path).expect("a safe place").path, path.canonicalize().expect("a path"));
}

#[test]
fn what_is_no_regular_file() {
    let bench = Bench::new();
    names(&bench.refusal(&bench.subdir("libdir.so", 0o755)), &["is a directory", "expected a regular file"]);
    let pipe = bench.path("libpipe.so");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    names(&bench.refusal(&pipe), &["is a pipe"]);
    names(&bench.refusal(&bench.path("libnone.so")), &["libnone.so", "No such file"]);
}

#[test]
fn a_file_outside_the_plugin_directories() {
    let (bench, elsewhere) = (Bench::new(), Bench::new());
    let outside = elsewhere.c("aborts");
    names(&bench.refusal(&outside), &[&outside.to_string_lossy(), "outside the plugin directories", "plugins.dirs"]);
}

#[test]
fn a_link_out_of_the_plugin_directories() {
    let (bench, elsewhere) = (Bench::new(), Bench::new());
    let (outside, link) = (elsewhere.c("aborts"), bench.path("liblink.so"));
    symlink(&outside, &link).expect("a link");
    let text = bench.refusal(&link);
    names(&text, &["outside the plugin directories", &outside.to_string_lossy(), &link.to_string_lossy()]);
    let inside = bench.path("libinside.so");
    symlink(bench.c("exits"), &inside).expect("a link");
    assert!(bench.inspect(&inside).expect("it stays inside").path.ends_with("libexits.so"));
}

#[test]
fn a_directory_beside_that_only_begins_alike() {
    let mut bench = Bench::new();
    bench.config.dirs = vec![bench.path("plug")];
    bench.subdir("plug", 0o755);
    let (_, path) = plugin_in(&bench, 0o755);
    names(&bench.refusal(&path), &["outside the plugin directories"]);
}

#[test]
fn a_file_that_others_can_write() {
    let bench = Bench::new();
    let (_, path) = plugin_in(&bench, 0o755);
    set_mode(&path, 0o664);
    names(&bench.refusal(&path), &["libplugin.so can be written by group", "0664", "chmod go-w"]);
    set_mode(&path, 0o646);
    names(&bench.refusal(&path), &["libplugin.so can be written by everybody", "0646"]);
}

#[test]
fn a_directory_that_others_can_write() {
    let bench = Bench::new();
    let (dir, path) = plugin_in(&bench, 0o775);
    names(&bench.refusal(&path), &["plugins can be written by group", "0775"]);
    set_mode(&dir, 0o757);
    names(&bench.refusal(&path), &["plugins can be written by everybody", "0757"]);
}

#[test]
fn a_directory_above_that_others_can_write() {
    let mut bench = Bench::new();
    let (dir, _) = plugin_in(&bench, 0o777);
    let below = dir.join("below");
    fs::create_dir(&below).expect("a directory");
    let path = below.join("libbelow.so");
    fs::copy(bench.c("aborts"), &path).expect("a copy");
    names(&bench.refusal(&path), &["plugins can be written by everybody", "plugins.trusted_root"]);
    bench.config.trusted_root = below;
    bench.inspect(&path).expect("above the trusted root nothing is checked");
}

#[test]
fn a_path_that_does_not_pass_the_trusted_root_is_checked_as_a_whole() {
    let mut bench = Bench::new();
    let (_, path) = plugin_in(&bench, 0o777);
    bench.config.trusted_root = bench.subdir("elsewhere", 0o755);
    names(&bench.refusal(&path), &["can be written by everybody"]);
}

#[test]
fn a_file_of_somebody_else() {
    let bench = Bench::new();
    let (_, path) = plugin_in(&bench, 0o755);
    names(
        &refusal_of_foreign(&bench, &path, &path),
        &["libplugin.so belongs to user", "expected root or the host's user"],
    );
}

#[test]
fn a_directory_of_somebody_else() {
    let bench = Bench::new();
    let (dir, path) = plugin_in(&bench, 0o755);
    names(&refusal_of_foreign(&bench, &dir, &path), &["plugins belongs to user"]);
}

#[test]
fn a_sticky_directory_is_a_place_for_ones_own_only() {
    let bench = Bench::new();
    let (dir, path) = plugin_in(&bench, 0o1777);
    bench.inspect(&path).expect("nobody else can exchange it there");
    let text = refusal_of_foreign(&bench, &path, &path);
    names(&text, &["libplugin.so belongs to user", "sticky directory", &dir.to_string_lossy()]);
}
