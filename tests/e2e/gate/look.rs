//! The first look: what is found out by opening, in a process that may end of it.

use std::path::Path;
use std::time::{Duration, Instant};

use componenthost::plugin::copy::private_copy;
use componenthost::plugin::gate::GateError;
use componenthost::plugin::gate::first_look::first_look;

use super::bench::{Bench, fixtures, names, processes};

#[tokio::test]
async fn a_plugin_that_fits_is_described() {
    let bench = Bench::new();
    let seen = bench.look(&bench.smallest()).await.expect("it fits");
    assert_eq!((seen.fingerprint.package.as_str(), seen.fingerprint.version.as_str()), ("smallest", "1.2.3"));
    assert_eq!((seen.interface, seen.schema), (1, Some(true.into())));
}

#[tokio::test]
async fn a_constructor_that_aborts() {
    let bench = Bench::new();
    let text = bench.refusal_of_look(&bench.c("aborts")).await;
    names(&text, &["libaborts.so", "while it was being opened", "signal 6 (SIGABRT)", "cannot go on"]);
}

#[tokio::test]
async fn a_constructor_that_exits() {
    let bench = Bench::new();
    names(&bench.refusal_of_look(&bench.c("exits")).await, &["while it was being opened", "exit code 0"]);
}

#[tokio::test]
async fn a_constructor_that_hangs_is_ended_with_all_that_it_started() {
    let mut bench = Bench::new();
    bench.config.first_look_timeout = Duration::from_millis(300);
    let admitted = bench.inspect(&bench.c("hangs")).expect("a plugin");
    let copy = private_copy(&admitted, &bench.path("copies"), 1).expect("a copy");
    let began = Instant::now();
    let program = tests::binary::binary();
    let refused = first_look(program, copy.path(), &admitted.path, bench.config.first_look_timeout).await;
    names(&refused.expect_err("it hangs").to_string(), &["300ms", "while it was being opened", "first_look_timeout"]);
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    processes(copy.path(), false).await;
}

#[tokio::test]
async fn a_look_that_nobody_waits_for_any_longer_leaves_no_process() {
    let bench = Bench::new();
    let admitted = bench.inspect(&bench.c("hangs")).expect("a plugin");
    let copy = private_copy(&admitted, &bench.path("copies"), 1).expect("a copy");
    let limit = Duration::from_secs(60);
    tokio::select! {
        ended = first_look(tests::binary::binary(), copy.path(), &admitted.path, limit) => panic!("{ended:?}"),
        () = processes(copy.path(), true) => {}
    }
    processes(copy.path(), false).await;
}

#[tokio::test]
async fn a_library_that_cannot_be_linked() {
    let bench = Bench::new();
    let text = bench.refusal_of_look(&bench.c("unresolved")).await;
    names(&text, &["the dynamic loader refuses it", "missing_in_every_library"]);
}

#[tokio::test]
async fn an_entry_that_gives_nothing() {
    let bench = Bench::new();
    let text = bench.refusal_of_look(&bench.c("no_header")).await;
    names(&text, &["componenthost_plugin_no_header gives nothing", "no header"]);
}

#[tokio::test]
async fn another_abi_version() {
    let bench = Bench::new();
    let text = bench.refusal_of_look(&bench.c("other_abi")).await;
    names(&text, &["another ABI version", "0.11, found 'abi stable library for Rust' 0.10", "plugin-api"]);
}

#[tokio::test]
async fn a_header_with_nothing_behind_it() {
    let bench = Bench::new();
    let refused = bench.look(&bench.c("garbage")).await.expect_err("it crashes");
    assert!(matches!(refused, GateError::Ended { .. }), "{refused:?}");
    names(&refused.to_string(), &["while it was asked for its root module", "signal"]);
}

#[tokio::test]
async fn another_layout_of_the_root_module() {
    let bench = Bench::new();
    let path = bench.rust(&fixtures().join("root_layout.rs"), "root_layout", &[]);
    names(&bench.refusal_of_look(&path).await, &["the layouts differ", "fingerprint", "u64"]);
}

#[tokio::test]
async fn another_layout_of_the_interface() {
    let bench = Bench::new();
    let text = bench.refusal_of_look(&bench.by_hand("interface_layout")).await;
    names(&text, &["the layouts differ: interface 1", "PluginV1", "u64"]);
}

#[tokio::test]
async fn no_interface_in_common() {
    let bench = Bench::new();
    let text = bench.refusal_of_look(&bench.by_hand("no_interface")).await;
    names(&text, &["no interface in common: the host has 1, the plugin has 7, 8"]);
}

#[tokio::test]
async fn a_plugin_whose_panics_abort() {
    let bench = Bench::new();
    let text = bench.refusal_of_look(&bench.by_hand("panic_abort")).await;
    names(&text, &["panic strategy: expected unwind, found abort", "profile"]);
}

#[tokio::test]
async fn a_child_that_cannot_be_started() {
    let bench = Bench::new();
    let (copy, limit) = (bench.c("exits"), Duration::from_secs(5));
    let refused = first_look(Path::new("/nowhere/program"), &copy, &copy, limit).await;
    assert!(matches!(refused, Err(GateError::Child { .. })), "{refused:?}");
}
