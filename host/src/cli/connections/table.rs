//! The connections as lines of text, within the width of a terminal.
//!
//! One line for each peer, and a second one where there is something to say of it. Where the columns do not fit, the least
//! needed are left out.

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::Value;

/// Where the text goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// Columns, and lines; none where it is no terminal.
    pub size: Option<(usize, usize)>,
}

impl Terminal {
    /// Of standard output.
    pub fn of_output() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self { size: None };
        }
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        Self { size: Some(size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))) }
    }

    /// A line that fits.
    pub fn cut(&self, line: String) -> String {
        match self.size {
            Some((width, _)) if line.chars().count() > width => {
                line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
            }
            _ => line,
        }
    }
}

/// The columns in their order, and which go first where there is no room: the highest number.
const COLUMNS: [(&str, u8); 10] = [
    ("PEER", 0),
    ("SESSION", 0),
    ("LINK", 0),
    ("SINCE", 1),
    ("ADDRESS", 2),
    ("DIALS", 5),
    ("CALLS", 3),
    ("IN", 6),
    ("OUT", 6),
    ("PING", 4),
];

/// Between two columns.
const GAP: &str = "  ";

/// All dependencies of a host.
pub(super) fn table(host: &str, dependencies: &[Value], terminal: &Terminal) -> Vec<String> {
    let mut lines = vec![host.to_owned()];
    if dependencies.is_empty() {
        lines.push("depends on nobody".to_owned());
    }
    let rows: Vec<Vec<[String; COLUMNS.len()]>> =
        dependencies.iter().map(|of| peers(of).map(|peer| row(of, peer)).collect()).collect();
    let columns = columns(rows.iter().flatten(), terminal);
    let layout = |cells: &[String; COLUMNS.len()]| {
        let cells = columns.iter().map(|(at, width)| format!("{:<width$}", cells[*at]));
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    for (dependency, rows) in dependencies.iter().zip(rows) {
        lines.push(String::new());
        lines.push(title(dependency));
        if !rows.is_empty() {
            lines.push(layout(&COLUMNS.map(|(name, _)| name.to_owned())));
        }
        for (peer, row) in peers(dependency).zip(&rows) {
            lines.push(layout(row));
            let remarks = remarks(peer);
            if !remarks.is_empty() {
                lines.push(format!("    {}", remarks.join("; ")));
            }
        }
    }
    lines.into_iter().map(|line| terminal.cut(line)).collect()
}

/// The last events of these dependencies, oldest first.
pub(super) fn events(dependencies: &[Value], last: usize, terminal: &Terminal) -> Vec<String> {
    let mut events: Vec<&Value> =
        dependencies.iter().flat_map(|of| of["events"].as_array().into_iter().flatten()).collect();
    // RFC 3339 sorts as it reads; those of one moment stay in order.
    events.sort_by_key(|event| text(&event["at"]));
    let first = events.len().saturating_sub(last);
    let lines = events[first..].iter().map(|event| terminal.cut(event_line("peer", event)));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { vec!["no events yet".to_owned()] } else { lines }
}

/// Something that has happened, in one line.
pub(super) fn event_line(kind: &str, data: &Value) -> String {
    let (at, role, event) = (text(&data["at"]), text(&data["role"]), text(&data["event"]));
    let why = |text: String| if text.is_empty() { text } else { format!(": {text}") };
    match kind {
        "peer" => format!("{at} {role}-{} {event}{}", data["server_id"], why(text(&data["detail"]))),
        "component" => {
            let fenced = if data["fenced"] == true { ", fenced" } else { "" };
            format!("{at} {role} {}{fenced}{}", text(&data["state_code"]), why(text(&data["cause"])))
        }
        "session" => format!("{at} {role} session {event}{}", why(text(&data["cause"]))),
        "discovery" => format!("{at} table of {role} {event}{}", why(text(&data["detail"]))),
        "table" => format!("the events before are not told: {} were missed", shown(&data["missed"], "some")),
        other => format!("{at} {other} {data}"),
    }
}

fn title(dependency: &Value) -> String {
    let callers: Vec<String> = array(&dependency["callers"])
        .map(|caller| {
            let required = if caller["required"] == true { ", required" } else { "" };
            format!("{} ({}{required})", text(&caller["role"]), text(&caller["kind"]))
        })
        .collect();
    let table = match dependency["table_age_ms"].as_u64() {
        None => "nothing is known of it yet".to_owned(),
        Some(age) => {
            let stale = if dependency["table_stale"] == true { ", STALE" } else { "" };
            format!("table of revision {}, {} old{stale}", dependency["table_revision"], duration(age))
        }
    };
    let count = peers(dependency).count();
    let count = match count {
        0 => "nobody is registered".to_owned(),
        1 => "1 peer".to_owned(),
        more => format!("{more} peers"),
    };
    format!("{}, for {}: {count}; {table}", text(&dependency["role"]), callers.join(", "))
}

fn row(dependency: &Value, peer: &Value) -> [String; COLUMNS.len()] {
    let ping = peer["last_round_trip_us"].as_u64().map_or_else(|| "-".to_owned(), micros);
    [
        format!("{}-{}", text(&dependency["role"]), peer["server_id"]),
        text(&peer["session"]),
        text(&peer["link"]),
        duration(peer["since_ms"].as_u64().unwrap_or_default()),
        text(&peer["address"]),
        shown(&peer["attempts"], "-"),
        shown(&peer["calls_running"], "-"),
        bytes(peer["bytes_in"].as_u64().unwrap_or_default()),
        bytes(peer["bytes_out"].as_u64().unwrap_or_default()),
        ping,
    ]
}

/// What is out of the ordinary.
fn remarks(peer: &Value) -> Vec<String> {
    let mut remarks = Vec::new();
    for (flag, remark) in [
        ("standby", "in standby"),
        ("suspect", "suspect: etcd's last list did not have it"),
        ("unverified", "unverified: it cannot say who it is"),
    ] {
        if peer[flag] == true {
            remarks.push(remark.to_owned());
        }
    }
    if peer["way"] == "local" {
        remarks.push("in this host".to_owned());
    }
    if let Some(code) = peer["peer_says"].as_str() {
        remarks.push(format!("it says that it is {code}"));
    }
    if let Some(tries) = peer["tries"].as_u64().filter(|tries| *tries > 0) {
        remarks.push(format!("{tries} failed {}", if tries == 1 { "try" } else { "tries" }));
    }
    if let Some(next) = peer["next_try_ms"].as_u64() {
        remarks.push(format!("next dial in {}", duration(next)));
    }
    remarks.extend(Some(text(&peer["last_error"])).filter(|error| !error.is_empty()));
    remarks
}

/// The columns that there is room for, each with its width.
fn columns<'a>(rows: impl Iterator<Item = &'a [String; COLUMNS.len()]>, terminal: &Terminal) -> Vec<(usize, usize)> {
    let mut widths = COLUMNS.map(|(name, _)| name.len());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut columns: Vec<(usize, usize)> = widths.into_iter().enumerate().collect();
    let Some((room, _)) = terminal.size else { return columns };
    let needs =
        |columns: &[(usize, usize)]| columns.iter().map(|(_, width)| width + GAP.len()).sum::<usize>() - GAP.len();
    while needs(&columns) > room {
        let Some(last) = columns.iter().map(|(at, _)| COLUMNS[*at].1).max().filter(|last| *last > 0) else { break };
        columns.retain(|(at, _)| COLUMNS[*at].1 != last);
    }
    columns
}

fn peers(dependency: &Value) -> impl Iterator<Item = &Value> {
    array(&dependency["peers"])
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    // What others wrote must not move the cursor.
    value.as_str().unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shown(value: &Value, otherwise: &str) -> String {
    value.as_u64().map_or_else(|| otherwise.to_owned(), |number| number.to_string())
}

/// In two units at most.
fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}.{}s", ms % 1000 / 100),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn micros(us: u64) -> String {
    let ms = Duration::from_micros(us).as_secs_f64() * 1000.0;
    if us < 10_000 { format!("{ms:.2}ms") } else { format!("{ms:.0}ms") }
}

fn bytes(count: u64) -> String {
    let mut value = count;
    for unit in ["B", "k", "M", "G", "T"] {
        if value < 10_000 && (unit == "B" || value < 1000) || unit == "T" {
            return format!("{value}{unit}");
        }
        value /= 1000;
    }
    unreachable!("the last unit takes all")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dependencies() -> Vec<Value> {
        let ready = json!({
            "server_id": 12, "address": "10.0.0.12:21123", "session": "live", "link": "ready", "since_ms": 192_000,
            "attempts": 1, "calls_running": 3, "bytes_in": 12_345_678, "bytes_out": 999, "last_round_trip_us": 310,
            "tries": 0, "way": "tcp",
        });
        let retrying = json!({
            "server_id": 13, "address": "10.0.0.13:21123", "session": "live", "link": "retrying", "since_ms": 4321,
            "attempts": 7, "calls_running": 0, "bytes_in": 0, "bytes_out": 0, "tries": 1, "next_try_ms": 200,
            "last_error": "connection refused\u{1b}[2J", "way": "tcp",
        });
        vec![json!({
            "role": "querynode", "callers": [{ "role": "querycoord", "kind": "node", "required": true }],
            "table_revision": 41, "table_age_ms": 300, "table_stale": false, "peers": [ready, retrying],
        })]
    }

    #[test]
    fn a_table_says_what_is_there_and_what_is_wrong() {
        let lines = table("querycoord (server id 3)", &dependencies(), &Terminal { size: None });
        let expected = [
            "querycoord (server id 3)",
            "",
            "querynode, for querycoord (node, required): 2 peers; table of revision 41, 300ms old",
            "PEER          SESSION  LINK      SINCE  ADDRESS          DIALS  CALLS  IN     OUT   PING",
            "querynode-12  live     ready     3m12s  10.0.0.12:21123  1      3      12M    999B  0.31ms",
            "querynode-13  live     retrying  4.3s   10.0.0.13:21123  7      0      0B     0B    -",
            "    1 failed try; next dial in 200ms; connection refused [2J",
        ];
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(lines.iter().map(|line| squeeze(line)).collect::<Vec<_>>(), expected.map(squeeze));
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
    }

    #[test]
    fn every_width_is_kept() {
        for width in 10..120 {
            let lines = table("querycoord (server id 3)", &dependencies(), &Terminal { size: Some((width, 24)) });
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            let heads = lines.iter().find(|line| line.starts_with("PEER")).expect("heads");
            assert!(width < 40 || heads.contains("LINK"), "{width}: {heads}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([9_999, 10_000, 12_345_678].map(bytes), ["9999B", "10k", "12M"]);
        assert_eq!([7, 59_999, 60_000, 90_000_000].map(duration), ["7ms", "59.9s", "1m0s", "1d1h"]);
        assert_eq!([310, 25_000].map(micros), ["0.31ms", "25ms"]);
    }
}
