//! The command line: what a user can ask of the program, and how it ends.
//!
//! Only what is typed and what is printed is here; what `componenthost --config FILE` then does is the host's start. Every
//! verb has a file of its own.

pub mod call;
pub mod check;
pub mod connections;
pub mod host;
pub mod inspect;
pub mod restart;
pub mod swap;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config;
use plugin_api::error::chain;

/// The exit code of what was refused or has failed. That of a wrong command line or configuration is
/// [`config::EXIT_CODE`].
pub const FAILED: u8 = 1;

const EXAMPLES: &str = "\
Examples:
  componenthost --config config/standalone.toml
      run RootCoord, QueryCoord and a QueryNode in one host, until SIGINT or SIGTERM; at SIGHUP each
      component whose plugin file has changed is swapped
  componenthost --config config/standalone.toml --watch
      the same, and each is swapped as soon as its plugin was rebuilt
  componenthost check --config config/querynode.toml
      report every mistake in the configuration, and every plugin that would be refused
  componenthost check --connect --config config/querynode.toml
      the same, and what each member of etcd answers: refused, TLS, authentication, no leader
  componenthost call rootcoord ShowCollections
      call a method of the RootCoord that is registered in etcd
  componenthost connections querycoord --watch
      show what the running QueryCoord depends on: peers, sessions, links, last errors
  componenthost swap querynode ./libquerynode.so
      replace the code of the running QueryNode; its session and its callers stay
  componenthost restart querycoord
      end the running QueryCoord, and start it again
  componenthost plugin inspect ./libquerynode.so
      say what that file is: role, version, dependencies, build, size

Exit codes: 0 done, 1 refused or failed, 64 wrong command line or configuration.
Every key of the configuration is in config/reference.toml.";

/// What the user wants.
#[derive(Debug)]
pub enum Command {
    /// Run a host.
    Run {
        /// Its configuration.
        config: PathBuf,
        /// Are components swapped whose files were rebuilt?
        watch: bool,
    },
    /// Report mistakes without starting.
    Check(check::CheckArguments),
    /// Call a method of a component.
    Call(Box<call::CallArguments>),
    /// Show the connections of a running host.
    Connections(connections::ConnectionsArguments),
    /// Replace the code of a running component.
    Swap(swap::SwapArguments),
    /// Start a running component again.
    Restart(restart::RestartArguments),
    /// Say what a plugin file is.
    Inspect(inspect::InspectArguments),
}

/// Runs the components that a configuration names, and lets other hosts find and call them.
#[derive(Parser)]
#[command(
    name = "componenthost",
    version = concat!(env!("CARGO_PKG_VERSION"), " (build ", env!("BUILD_ID"), ")"),
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The configuration; with it alone, the host runs
    #[arg(long, value_name = "FILE", env = config::FILE_VARIABLE, required = true)]
    config: Option<PathBuf>,
    /// For development: swap a component by itself when its plugin was rebuilt; its state is kept if it can be
    #[arg(long)]
    watch: bool,
}

#[derive(Subcommand)]
enum Verb {
    Check(check::CheckArguments),
    Call(Box<call::CallArguments>),
    Connections(connections::ConnectionsArguments),
    Swap(swap::SwapArguments),
    Restart(restart::RestartArguments),
    #[command(subcommand)]
    Plugin(PluginVerb),
}

/// Look at plugin files
#[derive(Subcommand)]
enum PluginVerb {
    Inspect(inspect::InspectArguments),
}

/// Understands a command line, the program's name first.
///
/// # Errors
///
/// What is to be printed instead: help, the version, or what is wrong. See [`show`].
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let arguments = Arguments::try_parse_from(arguments)?;
    Ok(match (arguments.verb, arguments.config) {
        (Some(Verb::Check(arguments)), _) => Command::Check(arguments),
        (Some(Verb::Call(arguments)), _) => Command::Call(arguments),
        (Some(Verb::Connections(arguments)), _) => Command::Connections(arguments),
        (Some(Verb::Swap(arguments)), _) => Command::Swap(arguments),
        (Some(Verb::Restart(arguments)), _) => Command::Restart(arguments),
        (Some(Verb::Plugin(PluginVerb::Inspect(arguments))), _) => Command::Inspect(arguments),
        (None, Some(config)) => Command::Run { config, watch: arguments.watch },
        (None, None) => unreachable!("clap asks for one of both"),
    })
}

/// Prints what [`parse`] gave in place of a command, and says with which code to exit: 0 for help, 64 for a mistake.
pub fn show(instead: &clap::Error) -> u8 {
    // Where nobody reads the help, there is nobody to tell.
    drop(instead.print());
    if instead.use_stderr() { config::EXIT_CODE } else { 0 }
}

/// Prints an error with its whole chain of causes, once, in one line after another.
pub fn report(out: &mut dyn Write, error: &(dyn Error + 'static)) {
    // As above.
    drop(writeln!(out, "{}", chain(error)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_arguments_are_well_formed() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_configuration_alone_runs_a_host() {
        let command = parsed("componenthost --config a.toml").expect("a command");
        assert!(matches!(command, Command::Run { config, watch: false } if config.as_os_str() == "a.toml"));
        let command = parsed("componenthost --config a.toml --watch").expect("a command");
        assert!(matches!(command, Command::Run { watch: true, .. }));
    }

    #[test]
    fn verbs_have_their_own_configuration() {
        let command = parsed("componenthost check --config a.toml").expect("a command");
        assert!(matches!(command, Command::Check(check) if check.config.as_os_str() == "a.toml"));
        let command = parsed("componenthost call querycoord Search --json {} --timeout 2s").expect("a command");
        assert!(matches!(command, Command::Call(call) if call.role.as_str() == "querycoord" && call.config.is_none()));
    }

    #[test]
    fn a_wrong_line_ends_with_64_and_help_with_0() {
        for (line, code) in [
            ("componenthost", 64),
            ("componenthost start", 64),
            ("componenthost --watch", 64),
            ("componenthost --watch check --config a.toml", 64),
            ("componenthost check", 64),
            ("componenthost call querycoord", 64),
            ("componenthost call QueryCoord Search", 64),
            ("componenthost call querycoord Search --timeout soon", 64),
            ("componenthost --help", 0),
            ("componenthost call --help", 0),
            ("componenthost connections --help", 0),
            ("componenthost connections --server-id x", 64),
            ("componenthost swap querynode", 64),
            ("componenthost swap QueryNode ./a.so", 64),
            ("componenthost swap querynode ./a.so --state all", 64),
            ("componenthost swap querynode ./a.so --probation soon", 64),
            ("componenthost swap --help", 0),
            ("componenthost restart", 64),
            ("componenthost restart --help", 0),
            ("componenthost plugin", 64),
            ("componenthost plugin inspect", 64),
            ("componenthost plugin inspect a.so --role A", 64),
            ("componenthost plugin inspect --help", 0),
            ("componenthost --version", 0),
        ] {
            let error = parsed(line).expect_err(line);
            assert_eq!(if error.use_stderr() { 64 } else { 0 }, code, "{line}");
        }
    }
}
