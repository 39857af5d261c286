//! `componenthost swap`: the code of a component of a running host is replaced by another, while it serves.
//!
//! It asks a host of this machine over its admin socket, and shows how the swap goes. What a swap does is the host's.

mod shown;

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use plugin_api::identity::Role;
use std::time::Duration;

use super::host::{self, AskError, HostArguments, HostError};
use crate::swap::{Order, Outcome, StateMode, SwapView};
use shown::Shown;

const EXAMPLES: &str = "\
Examples:
  componenthost swap querynode ./libquerynode.so
      replace the code of the QueryNode that runs here by that of this file; its state, its
      session and its callers stay
  componenthost swap querynode querynode
      the same by a plugin's name, looked up where the host looks for plugins
  componenthost swap rootcoord ./librootcoord.so --probation 5m
      and go back to what ran before if the new one fails within five minutes

The host tries the file before anything changes; `componenthost plugin inspect` says what it finds.
The swap is the host's: Ctrl-C ends what is shown of it, and nothing else.

Exit codes: 0 committed, the new code serves; 1 refused, what served before serves on, or no host
could be asked; 2 rolled back after the new code had served and failed; 3 failed, neither serves;
64 wrong command line or configuration.";

/// Replace the code of a running component; its session, its address and its callers stay
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SwapArguments {
    /// Whose code
    pub role: Role,
    /// The new plugin: a path, which has a slash, or a name as in the configuration
    #[arg(value_name = "PATH")]
    pub plugin: String,
    /// What becomes of the state of the code that goes
    #[arg(long, value_enum, default_value_t)]
    pub state: StateMode,
    /// How long what ran before is kept, to go back to; what is configured, if not given
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub probation: Option<Duration>,
    /// Which host.
    #[command(flatten)]
    pub host: HostArguments,
    /// How the swap stands, in one line of JSON for each change of it
    #[arg(long)]
    pub json: bool,
}

/// Why it is not known how a swap went.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// There is no host to ask, or it does not begin.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The path cannot be told to the host.
    #[error("the path {plugin} cannot be made absolute")]
    Path {
        /// The path.
        plugin: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The host ended before the swap did.
    #[error("the host at {} told of no outcome: it has ended, as it seems", socket.display())]
    NoOutcome {
        /// Its socket.
        socket: PathBuf,
    },
    /// What was to be shown cannot be written.
    #[error("cannot write how the swap goes, which goes on")]
    Output {
        /// Why not.
        source: std::io::Error,
    },
}

impl SwapError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Host(error) => error.exit_code(),
            _ => super::FAILED,
        }
    }
}

/// The exit code of a swap that has ended.
pub fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Committed => 0,
        Outcome::Refused => super::FAILED,
        Outcome::RolledBack => 2,
        Outcome::Failed => 3,
    }
}

impl ValueEnum for StateMode {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Keep, Self::Try, Self::Fresh]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let (name, help) = match self {
            Self::Keep => ("keep", "It is handed over; a component that cannot do that is not swapped"),
            Self::Try => ("try", "It is handed over where the component can do that, and else dropped"),
            Self::Fresh => ("fresh", "It is dropped: the new code reads what is in the metadata, and no more"),
        };
        Some(clap::builder::PossibleValue::new(name).help(help))
    }
}

/// Swaps, and shows how it goes until its outcome.
///
/// # Errors
///
/// See [`SwapError`]; its text is for the user, [`SwapError::exit_code`] for the shell.
pub async fn swap(arguments: &SwapArguments, out: &mut (dyn Write + Send)) -> Result<Outcome, SwapError> {
    let order = order(arguments)?;
    let host = host::find(&arguments.host, Some(&arguments.role)).await?;
    let path = format!("/api/v1/components/{}/swap", arguments.role);
    let body = serde_json::to_string(&order).map_err(|error| host.failed(AskError::Json(error)))?;
    let mut answer = host.post(&path, body).await?;
    let mut shown = Shown::new(&arguments.role, !arguments.json && std::io::stdout().is_terminal());
    loop {
        let line = tokio::select! {
            biased;
            line = answer.until(b"\n") => line.map_err(|source| host.failed(source))?,
            () = shown.takes_long() => {
                write(out, &shown.running())?;
                continue;
            }
        };
        let Some(line) = line else { return Err(SwapError::NoOutcome { socket: host.socket }) };
        let view: SwapView = serde_json::from_slice(&line).map_err(|source| host.failed(AskError::Json(source)))?;
        let text = if arguments.json { String::from_utf8_lossy(&line).into_owned() } else { shown.next(&view) };
        write(out, &text)?;
        if let Some(outcome) = view.outcome {
            return Ok(outcome);
        }
    }
}

/// What is asked for. The host has another working directory.
fn order(arguments: &SwapArguments) -> Result<Order, SwapError> {
    let SwapArguments { plugin, state, probation, .. } = arguments;
    let plugin = if plugin.contains('/') {
        let absolute = std::path::absolute(plugin).and_then(|path| {
            path.into_os_string().into_string().map_err(|_| std::io::Error::other("the working directory is no UTF-8"))
        });
        absolute.map_err(|source| SwapError::Path { plugin: plugin.clone(), source })?
    } else {
        plugin.clone()
    };
    Ok(Order { plugin, state: *state, probation: *probation })
}

fn write(out: &mut (dyn Write + Send), text: &str) -> Result<(), SwapError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| SwapError::Output { source })
}

#[cfg(test)]
mod tests;
