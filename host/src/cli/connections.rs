//! `componenthost connections`: all dependencies of a running host, as a table.
//!
//! It asks a host of this machine over its admin socket, and shows what `/api/v1/connections` says. It changes nothing.

mod events;
mod table;
mod watch;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use plugin_api::identity::Role;
use serde_json::Value;

use super::host::{self, HostArguments, HostError, RunningHost};
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
    /// Which host.
    #[command(flatten)]
    pub host: HostArguments,
    /// The document of /api/v1/connections; with --watch one in each line, whenever something happens
    #[arg(long)]
    pub json: bool,
    /// Go on, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// The last events, too: 20, or so many
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    pub events: Option<usize>,
}

/// Why no connections are shown.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    /// There is no host to ask, or no answer.
    #[error(transparent)]
    Host(#[from] HostError),
    /// It ended while it was watched.
    #[error("the host at {} has ended", socket.display())]
    Ended {
        /// Its socket.
        socket: PathBuf,
    },
    /// What was to be shown cannot be written.
    #[error("cannot write the connections")]
    Output {
        /// Why not.
        source: std::io::Error,
    },
}

impl ConnectionsError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Host(error) => error.exit_code(),
            Self::Ended { .. } | Self::Output { .. } => super::FAILED,
        }
    }
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
    let host = host::find(&arguments.host, arguments.role.as_ref()).await?;
    if arguments.watch {
        return watch::watch(arguments, &host, out).await;
    }
    let text = if arguments.json {
        let view = of_host(&host, true).await?;
        serde_json::to_string_pretty(&view).unwrap_or_default()
    } else {
        show(arguments, &host, &Terminal::of_output()).await?.join("\n")
    };
    writeln!(out, "{text}").map_err(|source| ConnectionsError::Output { source })
}

/// What `/api/v1/connections` says.
async fn of_host(host: &RunningHost, events: bool) -> Result<Value, HostError> {
    host.get(&format!("/api/v1/connections?events={events}")).await
}

/// The table, and the events where they are asked for.
async fn show(
    arguments: &ConnectionsArguments,
    host: &RunningHost,
    terminal: &Terminal,
) -> Result<Vec<String>, ConnectionsError> {
    let view = of_host(host, arguments.events.is_some()).await?;
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
