//! `--watch`: the table again and again on a terminal, and each event as a line elsewhere.

use std::io::Write;
use std::time::Duration;

use super::events::Events;
use super::table::{Terminal, event_line};
use super::{ConnectionsArguments, ConnectionsError, RunningHost, of_host, show};

/// Ages and traffic move without an event.
const REDRAW: Duration = Duration::from_secs(1);
/// What happens at once is drawn once.
const SETTLE: Duration = Duration::from_millis(50);

/// Shows the connections until Ctrl-C, or until the host ends.
pub(super) async fn watch(
    arguments: &ConnectionsArguments,
    host: &RunningHost,
    out: &mut (dyn Write + Send),
) -> Result<(), ConnectionsError> {
    let mut events = Events::read(host).await?;
    let shown = async {
        let is_terminal = Terminal::of_output().size.is_some();
        match (arguments.json, is_terminal) {
            (true, _) => documents(host, &mut events, out).await,
            (false, true) => drawn(arguments, host, &mut events, out).await,
            (false, false) => appended(arguments, host, &mut events, out).await,
        }
    };
    tokio::select! {
        shown = shown => shown,
        // Without a handler the signal ends the process as well.
        _ = crate::signals::interrupted() => Ok(()),
    }
}

/// The table in place of the one before.
async fn drawn(
    arguments: &ConnectionsArguments,
    host: &RunningHost,
    events: &mut Events,
    out: &mut (dyn Write + Send),
) -> Result<(), ConnectionsError> {
    // What was on the screen scrolls away; what is drawn then begins in its upper left corner.
    write(out, "\x1b[2J")?;
    loop {
        let terminal = Terminal::of_output();
        let mut lines = show(arguments, host, &terminal).await.map_err(|error| gone(error, host))?;
        let room = terminal.size.map_or(usize::MAX, |(_, rows)| rows.saturating_sub(1).max(1));
        if lines.len() > room {
            let hidden = lines.len() - room + 1;
            lines.truncate(room - 1);
            lines.push(terminal.cut(format!("… {hidden} more lines; a higher terminal, or no --watch, shows them")));
        }
        // Each line is overwritten, and what is below is cleared: nothing flickers.
        let text: String = lines.iter().map(|line| format!("{line}\x1b[K\r\n")).collect();
        write(out, &format!("\x1b[H{text}\x1b[J"))?;
        let happened = tokio::time::timeout(REDRAW, events.next()).await;
        if matches!(happened, Ok(None)) {
            return Err(ConnectionsError::Ended { socket: host.socket.clone() });
        }
        settle(events).await;
    }
}

/// The table once, and each event as a line.
async fn appended(
    arguments: &ConnectionsArguments,
    host: &RunningHost,
    events: &mut Events,
    out: &mut (dyn Write + Send),
) -> Result<(), ConnectionsError> {
    let terminal = Terminal { size: None };
    let lines = show(arguments, host, &terminal).await?;
    write(out, &format!("{}\n", lines.join("\n")))?;
    while let Some(event) = events.next().await {
        if event.kind == "table" && event.data["why"] == "begin" {
            continue;
        }
        write(out, &format!("{}\n", event_line(&event.kind, &event.data)))?;
    }
    Err(ConnectionsError::Ended { socket: host.socket.clone() })
}

/// The document now, and again whenever something happens.
async fn documents(
    host: &RunningHost,
    events: &mut Events,
    out: &mut (dyn Write + Send),
) -> Result<(), ConnectionsError> {
    while events.next().await.is_some() {
        settle(events).await;
        let view = of_host(host, true).await.map_err(|error| gone(error.into(), host))?;
        write(out, &format!("{view}\n"))?;
    }
    Err(ConnectionsError::Ended { socket: host.socket.clone() })
}

/// What follows at once belongs to what is shown next.
async fn settle(events: &mut Events) {
    let all = async { while events.next().await.is_some() {} };
    // At the limit is where it ends, as a rule.
    let _ = tokio::time::timeout(SETTLE, all).await;
}

/// A host that does not answer while it is watched has ended, as a rule: then its socket is gone.
fn gone(error: ConnectionsError, host: &RunningHost) -> ConnectionsError {
    if host.socket.exists() { error } else { ConnectionsError::Ended { socket: host.socket.clone() } }
}

fn write(out: &mut (dyn Write + Send), text: &str) -> Result<(), ConnectionsError> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| ConnectionsError::Output { source })
}
