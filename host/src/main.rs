//! The host's program.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use componenthost::plugin::gate::first_look::{SUBCOMMAND, child};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(subcommand), Some(copy)) if subcommand == OsStr::new(SUBCOMMAND) => {
            child::first_look_main(&PathBuf::from(copy))
        }
        _ => ExitCode::SUCCESS,
    }
}
