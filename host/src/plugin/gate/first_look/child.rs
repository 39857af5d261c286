//! The child process of a first look: opens one copy, says what it saw, and ends.
//!
//! It starts no runtime and reads no configuration. What it writes is in [`super`].

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit};

use super::{FirstLook, Line, Stage};
use crate::plugin::gate::agreement::agree;
use crate::plugin::gate::elf;
use crate::plugin::gate::handshake::Loaded;

/// What the hidden subcommand runs, first thing in `main`: before threads, a runtime or the configuration.
///
/// A refusal is a result: it is written and the code is 0. Another code means that nothing was found out.
pub fn first_look_main(copy: &Path) -> ExitCode {
    // A crash in here is expected, so it leaves no core file. Without that limit it is only less tidy.
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    end_with_the_host();
    match look(copy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The host takes it for the last words.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// The host keeps the other end of standard input open while it waits. A host that was killed cannot end its child, and a
/// plugin that hangs does not end by itself.
fn end_with_the_host() {
    std::thread::spawn(|| {
        let mut end = [0];
        while matches!(io::stdin().read(&mut end), Ok(1..)) {}
        std::process::abort();
    });
}

fn look(copy: &Path) -> io::Result<()> {
    let entry_symbol = elf::read(&std::fs::read(copy)?).map_err(io::Error::other)?.entry_symbol;
    say(&Line::Stage(Stage::Opening))?;
    let loaded = Loaded::open(copy, &entry_symbol);
    say(&Line::Stage(Stage::Asking))?;
    say(&match loaded.and_then(|loaded| loaded.header()).and_then(agree) {
        Ok(agreed) => Line::Seen(Box::new(FirstLook {
            interface: agreed.interface.number(),
            schema: agreed.interface.schema(),
            fingerprint: agreed.fingerprint,
        })),
        Err(error) => Line::Refused(error),
    })?;
    say(&Line::Stage(Stage::Leaving))
}

/// The line feed before it ends what the plugin may have written to the same place.
fn say(line: &Line) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}", serde_json::to_string(line)?)?;
    out.flush()
}
