//! A host into whose binary its plugins are linked: the same code as in their shared libraries, without a file.
//!
//! `linked-host --config FILE` runs it, as `componenthost --config FILE` runs the host that loads them.

use std::error::Error;
use std::path::Path;

use componenthost::config::Config;
use componenthost::shutdown;
use componenthost::signals::Signals;
use componenthost::startup::host::Host;
use componenthost::telemetry::Telemetry;
use plugin_api::export::Plugin;

const LINKED: [Plugin; 3] = [probe_plugin::PLUGIN, rootcoord::PLUGIN, querynode::PLUGIN];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(2).ok_or("expected --config FILE")?;
    let config = Config::load(Path::new(&file))?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let signals = Signals::listen()?;
    let stop = signals.stop();
    let host = Host::start(config, &LINKED, telemetry.plugin_level(), &stop).await?;
    stop.cancelled().await;
    shutdown::stop(host).await;
    Ok(())
}
