//! A library that goes wrong while it is being opened: in the process that looks at it first.

use componenthost::swap::{Outcome, Phase};
use tests::{Cluster, Host};

use crate::swap::rig::{AT_ONCE, limits, second_edition};

/// A host whose second edition does this while it is opened.
async fn whose_second(on_open: &str) -> (Host, tempfile::NamedTempFile) {
    let cluster = Cluster::start().await;
    let word = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(word.path(), on_open).expect("it is writable");
    let config = limits(cluster.config()).set("plugins.first_look_timeout", "500ms");
    let config = config.probe("alpha", tests::probe::coordinator());
    let env = [("PROBE_ON_OPEN", word.path().to_str().expect("UTF-8"))];
    let host = cluster.spawn_program(tests::binary::binary(), config, &env);
    host.healthy().await;
    (host, word)
}

#[tokio::test]
async fn a_library_that_goes_wrong_when_it_is_opened_is_refused() {
    for (on_open, words) in [
        ("aborts", ["SIGABRT", "constructors"]),
        ("exits", ["exit code 7", "constructors"]),
        ("hangs", ["500ms", "constructors"]),
    ] {
        let (host, word) = whose_second(on_open).await;
        let before = host.as_before_a_swap("alpha").await;
        let swapped = host.swap("alpha", &second_edition(), &AT_ONCE).await;
        swapped.assert_failed(Outcome::Refused, Phase::Prepare, &words);
        assert_eq!(host.as_before_a_swap("alpha").await, before);
        word.close().expect("it is removed");
        host.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    }
}

#[tokio::test]
async fn a_library_that_is_slow_to_open_is_swapped() {
    let (host, _word) = whose_second("is slow").await;
    host.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
}
