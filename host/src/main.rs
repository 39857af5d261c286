//! The program: arguments, configuration, telemetry, start, wait, stop.

use std::path::Path;
use std::process::ExitCode;

use componenthost::cli::{self, Command, check};
use componenthost::config::{self, Config};
use componenthost::plugin::gate::first_look;
use componenthost::shutdown::{self, Stopped};
use componenthost::signals::Signals;
use componenthost::startup::host::{Host, StartupError};
use componenthost::startup::prepare;
use componenthost::telemetry::Telemetry;

fn main() -> ExitCode {
    // A plugin is looked at in a process of its own: this one, when it is asked to.
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(verb), Some(copy)) = (arguments.next(), arguments.next())
        && verb == first_look::SUBCOMMAND
    {
        return first_look::child::first_look_main(Path::new(&copy));
    }
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(instead) => return ExitCode::from(cli::show(&instead)),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(async {
        match command {
            Command::Run { config } => run(&config).await,
            Command::Check(arguments) => check_plugins(&arguments).await,
            Command::Call(arguments) => match cli::call::call(&arguments, &mut std::io::stdout()).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    cli::report(&mut std::io::stderr(), &error);
                    ExitCode::from(error.exit_code())
                }
            },
        }
    });
    // Blocking work of a plugin that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

async fn run(file: &Path) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(mistakes) => return mistaken(&mistakes),
    };
    let telemetry = match Telemetry::start(&config.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return failed(&error),
    };
    let signals = match Signals::listen(config.shutdown.limit) {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let stop = signals.stop();
    let mut host = match Host::start(config, &[], telemetry.plugin_level(), &stop).await {
        Ok(host) => host,
        Err(StartupError::Stopped) => return ExitCode::SUCCESS,
        Err(error) if error.is_of_configuration() => return mistaken(&error),
        Err(error) => return failed(&error),
    };
    let unexpected = tokio::select! {
        () = stop.cancelled() => None,
        failure = host.failed() => Some(failure),
    };
    if let Some(failure) = &unexpected {
        tracing::error!(failure, "the listener has failed: the host stops");
        // This stop has the same limit as one that was asked for.
        stop.cancel();
    }
    let stopped = shutdown::stop(host).await;
    if stopped == Stopped::Clean && unexpected.is_none() { ExitCode::SUCCESS } else { ExitCode::from(cli::FAILED) }
}

async fn check_plugins(arguments: &check::CheckArguments) -> ExitCode {
    let config = match arguments.load() {
        Ok(config) => config,
        Err(mistakes) => return mistaken(&mistakes),
    };
    let verdicts = prepare::check_all(&config).await;
    ExitCode::from(check::report(&verdicts, &mut std::io::stdout()))
}

fn mistaken(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    cli::report(&mut std::io::stderr(), error);
    ExitCode::from(config::EXIT_CODE)
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    cli::report(&mut std::io::stderr(), error);
    ExitCode::from(cli::FAILED)
}
