//! The host that loads its components; what it does is told in `program.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    componenthost::program::run(&[])
}
