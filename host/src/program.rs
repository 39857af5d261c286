//! The program: arguments, configuration, telemetry, start, wait, stop.
//!
//! `componenthost` is [`run`] without linked plugins. A binary that links components is it with them, as in
//! `componenthost::program::run(&[querynode::PLUGIN])`; its configuration names them by their crates.

use std::io::stdout;
use std::path::Path;
use std::process::ExitCode;

use plugin_api::export::Plugin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::cli::{self, Command, check};
use crate::config::{self, Config};
use crate::plugin::gate::first_look;
use crate::shutdown::{self, Stopped};
use crate::signals::Signals;
use crate::startup::host::{Host, HostEnded, StartupError};
use crate::startup::prepare;
use crate::telemetry::Telemetry;

/// Does what the process's arguments say, with these plugins as part of the binary, and says with which code to exit.
pub fn run(linked: &[Plugin]) -> ExitCode {
    // A plugin is looked at in a process of its own: this one, when it is asked to.
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(verb), Some(copy)) = (arguments.next(), arguments.next())
        && verb == first_look::SUBCOMMAND
    {
        return first_look::child::first_look_main(Path::new(&copy), &arguments.collect::<Vec<_>>());
    }
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(instead) => return ExitCode::from(cli::show(&instead)),
    };
    // Components' code runs on the workers, and may block them all. Sessions, discovery, the admin answers and the stop are
    // on a thread apart, so that a blocked component costs nobody's registration.
    let Runtimes { control, workers } = match Runtimes::build() {
        Ok(runtimes) => runtimes,
        Err(error) => return failed(&error),
    };
    let code = control.block_on(async {
        match command {
            Command::Run { config, watch } => host(&config, watch, linked, workers.handle()).await,
            Command::Check(arguments) => check_plugins(&arguments, linked).await,
            Command::Call(arguments) => {
                let called = cli::call::call(&arguments, &mut stdout()).await;
                done(called.map(|()| 0).map_err(|error| (error.exit_code(), error)))
            }
            Command::Connections(arguments) => {
                let shown = cli::connections::connections(&arguments, &mut stdout()).await;
                done(shown.map(|()| 0).map_err(|error| (error.exit_code(), error)))
            }
            Command::Swap(arguments) => {
                let swapped = cli::swap::swap(&arguments, &mut stdout()).await;
                done(swapped.map(cli::swap::exit_code).map_err(|error| (error.exit_code(), error)))
            }
            Command::Restart(arguments) => {
                let started = cli::restart::restart(&arguments, &mut stdout()).await;
                let code = |started| if started { 0 } else { cli::FAILED };
                done(started.map(code).map_err(|error| (error.exit_code(), error)))
            }
            Command::Inspect(arguments) => {
                let fits = cli::inspect::inspect(&arguments, &mut stdout()).await;
                let code = |fits| if fits { 0 } else { cli::FAILED };
                done(fits.map(code).map_err(|error| (error.exit_code(), error)))
            }
        }
    });
    // Work of a plugin that hangs must not keep the process.
    workers.shutdown_background();
    control.shutdown_background();
    code
}

/// The threads of a host.
struct Runtimes {
    control: Runtime,
    workers: Runtime,
}

impl Runtimes {
    fn build() -> std::io::Result<Self> {
        let control = Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
        let workers = Builder::new_multi_thread().thread_name("worker").enable_all().build()?;
        Ok(Self { control, workers })
    }
}

async fn host(file: &Path, watch: bool, linked: &[Plugin], workers: &Handle) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(mistakes) => return mistaken(&mistakes),
    };
    let telemetry = match Telemetry::start(&config.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return failed(&error),
    };
    raise_open_files();
    let signals = match Signals::listen(config.shutdown.limit) {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let stop = signals.stop();
    let mut host = match Host::start(config, linked, telemetry.plugin_level(), workers, &stop).await {
        Ok(host) => host,
        Err(StartupError::Stopped) => return ExitCode::SUCCESS,
        Err(error) if error.is_of_configuration() => return mistaken(&error),
        Err(error) => return failed(&error),
    };
    let files = host.follow_files(signals.hangups(), watch);
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = host.ended() => Some(ended),
    };
    match &ended {
        Some(HostEnded::ListenerFailed(failure)) => tracing::error!(failure, "the listener has failed: the host stops"),
        Some(HostEnded::StopAsked(why)) => tracing::warn!(why, "told to stop through etcd: the host stops"),
        None => {}
    }
    // Nothing is swapped any longer because of its file.
    drop(files);
    // A stop that no signal has asked for has the same limit.
    stop.cancel();
    let stopped = shutdown::stop(host).await;
    let failed = matches!(ended, Some(HostEnded::ListenerFailed(_)));
    if stopped == Stopped::Clean && !failed { ExitCode::SUCCESS } else { ExitCode::from(cli::FAILED) }
}

/// Each link is an open file, and what a process may have of them at first is seldom more than 1024.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let (soft, hard) = (shown(current), shown(maximum));
    if current == maximum {
        return tracing::info!(limit = hard, "open files: the limit is the hard one already");
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::info!(before = soft, limit = hard, "open files: raised to the hard limit"),
        Err(error) => tracing::warn!(limit = soft, %hard, %error, "open files: cannot be raised to the hard limit"),
    }
}

async fn check_plugins(arguments: &check::CheckArguments, linked: &[Plugin]) -> ExitCode {
    let config = match arguments.load() {
        Ok(config) => config,
        Err(mistakes) => return mistaken(&mistakes),
    };
    let (verdicts, members) = tokio::join!(prepare::check_all(&config, linked), arguments.look(&config));
    let of_plugins = check::report(&verdicts, &mut std::io::stdout());
    let of_members = check::report_members(&members, &mut std::io::stdout());
    // What has failed goes before what is mistaken, as among plugins.
    ExitCode::from(if of_members == 0 { of_plugins } else { of_members })
}

/// The exit code of a verb; its error is told, with the error's own code.
fn done(result: Result<u8, (u8, impl std::error::Error + 'static)>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|(code, error)| {
        cli::report(&mut std::io::stderr(), &error);
        code
    }))
}

fn mistaken(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    cli::report(&mut std::io::stderr(), error);
    ExitCode::from(config::EXIT_CODE)
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    cli::report(&mut std::io::stderr(), error);
    ExitCode::from(cli::FAILED)
}
