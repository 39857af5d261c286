//! A host into whose binary its plugins are linked: the same code as in their shared libraries, without a file.
//!
//! `linked-host --config FILE` runs it, as `componenthost --config FILE` runs the host that loads them.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use componenthost::config::Config;
use componenthost::plugin::gate::first_look;
use componenthost::shutdown;
use componenthost::signals::Signals;
use componenthost::startup::host::Host;
use componenthost::telemetry::Telemetry;
use plugin_api::export::Plugin;

const LINKED: [Plugin; 4] = [probe_plugin::PLUGIN, rootcoord::PLUGIN, querycoord::PLUGIN, querynode::PLUGIN];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        // A plugin that is a file is looked at in a process of its own: this one, when it is asked to.
        [verb, copy] if verb == first_look::SUBCOMMAND => first_look::child::first_look_main(Path::new(copy)),
        [_, file] => match run(Path::new(file)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(error = plugin_api::error::chain(error.as_ref()), "the host has failed");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::FAILURE,
    }
}

#[tokio::main]
async fn run(file: &Path) -> Result<(), Box<dyn Error>> {
    let config = Config::load(file)?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let signals = Signals::listen(config.shutdown.limit)?;
    let stop = signals.stop();
    let host = Host::start(config, &LINKED, telemetry.plugin_level(), &stop).await?;
    stop.cancelled().await;
    shutdown::stop(host).await;
    Ok(())
}
