//! `componenthost connections`: all dependencies of a running host, as a table.
//!
//! It asks a host of this machine over its admin socket, and shows what `/api/v1/connections` says. It changes nothing.

mod ask;
mod failure;
mod find;
mod table;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use plugin_api::identity::{Role, ServerId};
use serde_json::Value;

pub use failure::ConnectionsError;

use find::Found;
use table::Terminal;

const EXAMPLES: &str = "\
Examples:
  componenthost connections
      of the only host of this user on this machine
  componenthost connections querycoord --watch
      of the host with that role, what querycoord depends on; drawn anew whenever something happens
  componenthost connections --config config/querynode.toml --events
      of a host whose socket is where that configuration says (host.run_dir), with the last events

DIALS counts all dials, PING is the last round trip to the peer, IN and OUT are bytes.
With --watch and no terminal, each event is one more line.

Exit codes: 0 shown; 1 no host, several hosts, or one that does not answer; 64 wrong command line
or configuration.";

/// Show all dependencies of a running host: peers, sessions, links, last errors
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ConnectionsArguments {
    /// Of the host with this role, and only what this component depends on
    pub role: Option<Role>,
    /// A configuration, for where the sockets of its hosts are (host.run_dir)
    #[arg(long, value_name = "FILE", env = crate::config::FILE_VARIABLE)]
    pub config: Option<PathBuf>,
    /// Which of several hosts
    #[arg(long, value_name = "ID")]
    pub server_id: Option<ServerId>,
    /// The host's socket; goes before all that would find one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The document of /api/v1/connections; with --watch one in each line, whenever something happens
    #[arg(long)]
    pub json: bool,
    /// Go on, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// The last events, too: 20, or so many
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    pub events: Option<usize>,
    /// How long a host may take to answer
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// Shows the connections of a host.
///
/// # Errors
///
/// See [`ConnectionsError`]; its text is for the user, [`ConnectionsError::exit_code`] for the shell.
pub async fn connections(
    arguments: &ConnectionsArguments,
    out: &mut (dyn Write + Send),
) -> Result<(), ConnectionsError> {
    let host = find::find(arguments).await?;
    if arguments.watch {
        return watch::watch(arguments, &host, out).await;
    }
    let text = if arguments.json {
        let view = host.connections(true, arguments.timeout).await?;
        serde_json::to_string_pretty(&view).unwrap_or_default()
    } else {
        show(arguments, &host, &Terminal::of_output()).await?.join("\n")
    };
    writeln!(out, "{text}").map_err(|source| ConnectionsError::Output { source })
}

/// The table, and the events where they are asked for.
async fn show(
    arguments: &ConnectionsArguments,
    host: &Found,
    terminal: &Terminal,
) -> Result<Vec<String>, ConnectionsError> {
    let view = host.connections(arguments.events.is_some(), arguments.timeout).await?;
    let dependencies = of_caller(&view, arguments.role.as_ref());
    let mut lines = table::table(&host.name, &dependencies, terminal);
    if let Some(events) = arguments.events {
        lines.push(String::new());
        lines.extend(table::events(&dependencies, events, terminal));
    }
    Ok(lines)
}

/// The dependencies of one component, or of all.
fn of_caller(view: &Value, caller: Option<&Role>) -> Vec<Value> {
    let all = view["dependencies"].as_array().into_iter().flatten();
    let is_callers = |dependency: &&Value| {
        let mut callers = dependency["callers"].as_array().into_iter().flatten();
        caller.is_none_or(|role| callers.any(|caller| caller["role"] == role.as_str()))
    };
    all.filter(is_callers).cloned().collect()
}
