use clap::Parser as _;
use http::StatusCode;
use serde_json::json;

use super::*;
use crate::cli::host::fake::FakeHost;
use crate::swap::{Phase, PhaseView};

/// A host that answers with these states of a swap.
fn host(views: &[SwapView]) -> FakeHost {
    let line = |view| serde_json::to_string(view).expect("JSON") + "\n";
    FakeHost::new(StatusCode::OK, views.iter().map(line).collect())
}

async fn run(host: &FakeHost, line: &str) -> (Result<Outcome, SwapError>, String) {
    let arguments = parsed(&format!("{line} --socket {}", host.socket().display()));
    let mut out = Vec::new();
    (swap(&arguments, &mut out).await, String::from_utf8(out).expect("UTF-8"))
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    swap: SwapArguments,
}

fn parsed(line: &str) -> SwapArguments {
    Line::try_parse_from(line.split(' ')).expect("a command line").swap
}

fn view(phases: &[(Phase, f64, &str, bool)], phase: Option<Phase>, outcome: Option<Outcome>, reason: &str) -> SwapView {
    let over = |&(phase, took_ms, detail, failed): &(Phase, f64, &str, bool)| PhaseView {
        phase,
        took_ms,
        detail: detail.to_owned(),
        failed,
    };
    SwapView {
        number: 3,
        order: Order { plugin: "/p/libquerynode.so".to_owned(), state: StateMode::Keep, probation: None },
        asked_at_ms: 0,
        from: 1,
        to: Some(2),
        phase,
        phases: phases.iter().map(over).collect(),
        outcome,
        passing: false,
        reason: reason.to_owned(),
    }
}

#[tokio::test]
async fn each_phase_is_a_line_with_its_time_and_then_the_outcome() {
    let prepare = (Phase::Prepare, 41.4, "querynode 0.1.0", false);
    let host = host(&[
        view(&[], Some(Phase::Wait), None, ""),
        view(&[(Phase::Wait, 0.02, "", false)], Some(Phase::Prepare), None, ""),
        // A line may tell of several phases: what is slow to read is told the last of it.
        view(
            &[(Phase::Wait, 0.02, "", false), prepare, (Phase::HandOver, 1234.5, "7 segments", false)],
            None,
            Some(Outcome::Committed),
            "the configuration still names another file",
        ),
    ]);
    let (outcome, text) = run(&host, "swap querynode /p/libquerynode.so").await;
    assert_eq!(outcome.expect("an outcome"), Outcome::Committed);
    let expected = "\
querynode: swap 3, of generation 1 by /p/libquerynode.so
  wait         0.0 ms
  prepare       41 ms  querynode 0.1.0
  hand over     1.2 s  7 segments
committed: generation 2 serves: the configuration still names another file
";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn every_outcome_has_its_words_and_its_code() {
    for (ended, code, words) in [
        (Outcome::Committed, 0, "committed: generation 2 serves: a reason"),
        (Outcome::Refused, 1, "refused: generation 1 serves as if nothing had been: a reason"),
        (
            Outcome::RolledBack,
            2,
            "rolled back: the new code had served and failed; generation 1 serves again: a reason",
        ),
        (Outcome::Failed, 3, "failed: neither generation serves; the component is started again: a reason"),
    ] {
        let host = host(&[view(&[(Phase::Warm, 5.0, "no", true)], None, Some(ended), "a reason")]);
        let (outcome, text) = run(&host, "swap querynode a").await;
        assert_eq!(exit_code(outcome.expect("an outcome")), code);
        assert!(
            text.contains("  warm         5.0 ms  failed: no\n") && text.ends_with(&format!("{words}\n")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_a_failed_phase_says_is_not_said_again() {
    let failed = (Phase::Prepare, 5.0, "no such file", true);
    let host = host(&[view(&[failed], None, Some(Outcome::Refused), "no such file")]);
    let (_, text) = run(&host, "swap querynode a").await;
    assert!(text.ends_with("failed: no such file\nrefused: generation 1 serves as if nothing had been\n"), "{text}");
}

#[tokio::test]
async fn with_json_the_lines_are_the_hosts_own() {
    let views = [view(&[], Some(Phase::Wait), None, ""), view(&[], None, Some(Outcome::Refused), "no")];
    let (_, text) = run(&host(&views), "swap querynode a --json").await;
    let read: Vec<SwapView> = text.lines().map(|line| serde_json::from_str(line).expect("a swap")).collect();
    assert_eq!(read, views);
}

#[tokio::test]
async fn what_is_asked_for_is_what_was_typed() {
    let refused = view(&[], None, Some(Outcome::Refused), "");
    let host = host(std::slice::from_ref(&refused));
    let here = std::env::current_dir().expect("a working directory").display().to_string();
    for (line, expected) in [
        ("swap querynode ./lib.so", json!({ "plugin": format!("{here}/lib.so"), "state": "keep", "probation": null })),
        (
            "swap querynode a/lib.so",
            json!({ "plugin": format!("{here}/a/lib.so"), "state": "keep", "probation": null }),
        ),
        ("swap querynode /no/such.so", json!({ "plugin": "/no/such.so", "state": "keep", "probation": null })),
        (
            "swap querynode query-node --state fresh --probation 2m",
            json!({ "plugin": "query-node", "state": "fresh", "probation": "2m" }),
        ),
    ] {
        run(&host, line).await.0.expect("an outcome");
        let (path, order) = host.asked.lock().expect("no test panics with it").pop().expect("an order");
        assert_eq!(path, "/api/v1/components/querynode/swap");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&order).expect("JSON"), expected, "{line}");
    }
}

#[tokio::test]
async fn an_answer_without_an_outcome_is_told() {
    let (error, text) = run(&host(&[view(&[], Some(Phase::Gate), None, "")]), "swap querynode a").await;
    let error = error.expect_err("no outcome");
    assert!(error.exit_code() == 1 && error.to_string().contains("told of no outcome"), "{error}");
    assert!(text.starts_with("querynode: swap 3"), "{text}");
    let (error, _) = run(&FakeHost::new(StatusCode::OK, vec!["garbage\n".to_owned()]), "swap querynode a").await;
    assert!(plugin_api::error::chain(&error.expect_err("garbage")).contains("no JSON"));
}

#[tokio::test]
async fn a_host_that_refuses_is_told_in_its_words() {
    let body = json!({ "error": "no component of the role rootcoord in this host: it has querynode" }).to_string();
    let (error, _) = run(&FakeHost::new(StatusCode::NOT_FOUND, vec![body]), "swap rootcoord a").await;
    let error = error.expect_err("refused");
    assert!(
        error.exit_code() == 1
            && error
                .to_string()
                .ends_with("refuses: no component of the role rootcoord in this host: it has querynode"),
        "{error}"
    );
}

#[tokio::test]
async fn a_host_is_found_by_its_role_or_the_choice_is_told() {
    let host = host(&[view(&[], None, Some(Outcome::Committed), "")]);
    let config = host.directory.path().join("host.toml");
    let role = "[component.querynode]\n";
    std::fs::write(&config, format!("[host]\nrun_dir = \"{}\"\n{role}", host.directory.path().display()))
        .expect("a file");
    let by_config =
        async |line: &str| swap(&parsed(&format!("{line} --config {}", config.display())), &mut Vec::new()).await;
    assert_eq!(by_config("swap querynode a").await.expect("an outcome"), Outcome::Committed);
    let error = by_config("swap rootcoord a").await.expect_err("another role").to_string();
    assert!(error.contains("no host with the role rootcoord runs here; there are:"), "{error}");

    std::os::unix::fs::symlink(host.socket(), host.directory.path().join("8.sock")).expect("a second name");
    let error = by_config("swap querynode a").await.expect_err("two hosts").to_string();
    assert!(
        error.contains("several hosts run here") && error.contains("7.sock") && error.contains("8.sock"),
        "{error}"
    );
    assert_eq!(host.asked.lock().expect("no test panics with it").len(), 1, "none of both was asked");
}

#[tokio::test]
async fn where_no_host_can_be_asked_it_is_told() {
    let socket = "--socket /no/such.sock";
    let error = swap(&parsed(&format!("swap querynode a {socket}")), &mut Vec::new()).await.expect_err("nobody");
    assert!(error.exit_code() == 1 && error.to_string().contains("/no/such.sock gives no answer"), "{error}");
    let error = swap(&parsed("swap querynode a --config /no/such.toml"), &mut Vec::new()).await.expect_err("no file");
    assert_eq!(error.exit_code(), 64);
}

#[tokio::test]
async fn on_a_terminal_the_phase_that_runs_is_shown_until_it_is_over() {
    let mut shown = Shown::new(&Role::new("querynode").expect("a role"), true);
    shown.next(&view(&[], Some(Phase::Probation), None, ""));
    shown.takes_long().await;
    let running = shown.running();
    assert!(
        running.starts_with("\r\x1b[K  probation ") && running.ends_with(" …") && !running.contains('\n'),
        "{running:?}"
    );
    let over = shown.next(&view(&[(Phase::Probation, 700.0, "", false)], None, Some(Outcome::Committed), ""));
    assert_eq!(over, "\r\x1b[K  probation    700 ms\ncommitted: generation 2 serves\n");
}
