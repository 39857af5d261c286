//! A host into whose binary its plugins are linked: the same code as in their shared libraries, without a file.
//!
//! `linked-host --config FILE` runs it, as `componenthost --config FILE` runs the host that loads them.

use std::process::ExitCode;

fn main() -> ExitCode {
    componenthost::program::run(&[probe_plugin::PLUGIN, rootcoord::PLUGIN, querycoord::PLUGIN, querynode::PLUGIN])
}
