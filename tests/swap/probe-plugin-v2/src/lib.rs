//! The probe's second edition as a plugin: the same code under another version, with another state.
//!
//! Beside that it goes wrong while it is being opened, which no configuration reaches: where the variable
//! `PROBE_ON_OPEN` names a file that says how.

mod on_open;

use plugin_api::BoxError;
use probe_plugin::{Edition, Probe, ProbeConfig};

fn new(config: ProbeConfig) -> Result<Probe, BoxError> {
    Probe::of(Edition::Second, config)
}

plugin_api::export!(new);
