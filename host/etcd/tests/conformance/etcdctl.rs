//! `etcdctl`, as people use it: it prints the same of both.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::pair::Pair;

/// How a command went: its exit code and what it has printed, without what differs between any two servers.
fn etcdctl(endpoint: &str, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut process = command(endpoint, arguments).spawn().expect("etcdctl is in the path: the package etcd-client");
    let mut stdin = process.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = process.wait_with_output().expect("it ends");
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), alike(&printed.concat()))
}

fn command(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoint]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ids, addresses and times say nothing; a retry's own log line neither.
fn alike(printed: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([',', ')', ':']);
        let is_id = bare.len() >= 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_address = bare.starts_with("http://127.0.0.1:") || bare.starts_with("127.0.0.1:");
        let is_time = bare.ends_with("ms") || bare.ends_with("µs");
        if is_id || is_address || is_time { "*".to_owned() } else { word.to_owned() }
    };
    let lines = printed.lines().filter(|line| !line.starts_with('{'));
    let words = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    lines.map(words).collect::<Vec<_>>().join("\n")
}

/// The first lines of a command that does not end by itself.
fn first_lines(endpoint: &str, arguments: &[&str], count: usize) -> Vec<String> {
    let mut process = command(endpoint, arguments).spawn().expect("etcdctl is in the path");
    let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    let lines = lines.take(count).map(|line| alike(&line.expect("a text"))).collect();
    // Neither fails for a child that has not been waited for.
    process.kill().expect("a child can be killed");
    process.wait().expect("a child can be waited for");
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_prints_the_same() {
    let pair = Pair::start().await;
    let txn = "value(\"a\") = \"1\"\n\nput a 5\nget b\n\ndel a\n\n";
    for (arguments, input) in [
        (&["put", "a", "1"][..], ""),
        (&["put", "b", "2", "--prev-kv"], ""),
        (&["get", "a", "-w", "fields"], ""),
        (&["get", "--prefix", "", "--keys-only"], ""),
        (&["get", "a", "--rev", "99"], ""),
        (&["txn", "--interactive=true"], txn),
        (&["get", "a"], ""),
        (&["del", "--prev-kv", "a"], ""),
        (&["del", "nothing"], ""),
        (&["lease", "grant", "60"], ""),
        (&["lease", "timetolive", "1234"], ""),
        (&["lease", "revoke", "1234"], ""),
        (&["lease", "list"], ""),
        (&["compaction", "3"], ""),
        (&["compaction", "3"], ""),
        (&["get", "a", "--rev", "2"], ""),
        (&["endpoint", "health"], ""),
        (&["member", "list"], ""),
        (&["alarm", "list"], ""),
    ] {
        let [real, ours] = pair.endpoints().map(|endpoint| etcdctl(&endpoint, arguments, input));
        let differs = ["fields"].iter().any(|format| arguments.contains(format));
        let without_ids = |(code, text): (Option<i32>, String)| {
            let named = |line: &&str| !differs || !(line.contains("ID") || line.contains("RaftTerm"));
            (code, text.lines().filter(named).collect::<Vec<_>>().join("\n"))
        };
        assert_eq!(without_ids(ours), without_ids(real), "left: ours, right: etcd's, to {arguments:?}");
    }
    for arguments in [&["watch", "--prefix", "", "--rev", "4"][..], &["watch", "a", "--rev", "4", "--prev-kv"]] {
        let [real, ours] = pair.endpoints().map(|endpoint| first_lines(&endpoint, arguments, 5));
        assert_eq!(ours, real, "left: ours, right: etcd's, to {arguments:?}");
    }
    for endpoint in pair.endpoints() {
        let (code, status) = etcdctl(&endpoint, &["endpoint", "status"], "");
        assert!(code == Some(0) && status.contains("3.4.23") && status.contains("true"), "{status}");
    }
}
