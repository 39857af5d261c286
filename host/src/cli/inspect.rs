//! `componenthost plugin inspect`: what a file is, before any host is told to run it.
//!
//! The file is opened in a child process only; see `plugin::inspect`. Only what is typed and printed is here.

mod shown;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use plugin_api::identity::Role;

use crate::config::{Config, EXIT_CODE, Mistakes};
use crate::plugin::gate::PluginsConfig;
use crate::plugin::inspect::Inspection;

const EXAMPLES: &str = "\
Examples:
  componenthost plugin inspect target/release/libquerynode.so
      role, version, what it depends on, how it was built, how much memory it takes
  componenthost plugin inspect ./libprobe.so --role alpha --config config/alpha.toml
      as a component of that role, with what the gate of that configuration says of the place

The file is opened in a process of its own: one that crashes there, hangs or exits is told so.

Exit codes: 0 a plugin that this program can open, though a host may refuse its place; 1 it cannot
be opened, ends the process that looks at it, or writes to standard output; 64 wrong command line
or configuration.";

/// Say what a plugin file is: role, version, dependencies, build, size
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InspectArguments {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Ask it as a component of this role, where it plays any
    #[arg(long)]
    pub role: Option<Role>,
    /// A configuration, for what its gate says of the place (plugins.dirs)
    #[arg(long, value_name = "FILE", env = crate::config::FILE_VARIABLE)]
    pub config: Option<PathBuf>,
    /// All of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why nothing is said of a file.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// What was found cannot be written.
    #[error("cannot write what was found")]
    Output {
        /// Why not.
        source: std::io::Error,
    },
}

impl InspectError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_CODE,
            Self::Output { .. } => super::FAILED,
        }
    }
}

/// Says what the file is; false where that is nothing that a host could open.
///
/// # Errors
///
/// See [`InspectError`]; its text is for the user, [`InspectError::exit_code`] for the shell.
pub async fn inspect(arguments: &InspectArguments, out: &mut (dyn Write + Send)) -> Result<bool, InspectError> {
    let config = match &arguments.config {
        Some(file) => Config::load(file)?.plugins,
        None => PluginsConfig::default(),
    };
    let found = Inspection::of(&arguments.file, &config, arguments.role.as_ref()).await;
    let text = if arguments.json {
        serde_json::to_string_pretty(&found).unwrap_or_default()
    } else {
        shown::lines(&found, arguments.role.as_ref()).join("\n")
    };
    writeln!(out, "{text}").map_err(|source| InspectError::Output { source })?;
    Ok(!found.is_wrong())
}
