//! The child process of a first look: opens one copy, says what it saw, and ends.
//!
//! It reads no configuration, and starts a runtime only where a component is to be made. What it writes is in `said`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use plugin_api::border::v1::HostV1;
use plugin_api::border::v1::component::CreateSettings;
use plugin_api::identity::Role;
use rustix::process::{Resource, Rlimit};
use tokio::runtime::Builder;

use super::said::{Described, Line};
use super::{DESCRIBE, FirstLook, Stage};
use crate::plugin::asked::Nobody;
use crate::plugin::gate::agreement::{Agreed, Interface, agree};
use crate::plugin::gate::elf;
use crate::plugin::gate::handshake::Loaded;

/// What the hidden subcommand runs, first thing in `main`: before threads, a runtime or the configuration.
///
/// `more` is what follows the copy's path on the command line. A refusal is a result: it is written and the code is 0.
/// Another code means that nothing was found out.
pub fn first_look_main(copy: &Path, more: &[OsString]) -> ExitCode {
    // A crash in here is expected, so it leaves no core file. Without that limit it is only less tidy.
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    end_with_the_host();
    let describe = more.first().is_some_and(|word| word == DESCRIBE);
    let role = more.get(1).and_then(|role| Role::new(role.to_str()?).ok());
    match look(copy, describe.then_some(role)) {
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

/// Where `describe` is there, a component is made, for the role in it if there is one.
fn look(copy: &Path, describe: Option<Option<Role>>) -> io::Result<()> {
    let entry_symbol = elf::read(&std::fs::read(copy)?).map_err(io::Error::other)?.entry_symbol;
    say(&Line::Stage(Stage::Opening))?;
    let loaded = Loaded::open(copy, &entry_symbol);
    say(&Line::Stage(Stage::Asking))?;
    match loaded.and_then(|loaded| loaded.header()).and_then(agree) {
        Ok(Agreed { fingerprint, interface }) => {
            let (number, schema) = (interface.number(), interface.schema());
            say(&Line::Seen(Box::new(FirstLook { fingerprint, interface: number, schema })))?;
            if let Some(role) = describe {
                say(&Line::Stage(Stage::Creating))?;
                say(&Line::Described(Box::new(described(interface, role)?)))?;
            }
        }
        Err(error) => say(&Line::Refused(error))?,
    }
    say(&Line::Stage(Stage::Leaving))
}

/// What a component says of itself that is made for this alone, and not started.
fn described(interface: Interface, role: Option<Role>) -> io::Result<Described> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let host = HostV1::new(Arc::new(Nobody), runtime.handle().clone());
    // One that names no role takes that which it is made for: nobody's, where none is asked for.
    let nobodys = Role::new("any").expect("`any` is a role");
    let role_is_nobodys = role.is_none();
    let settings =
        CreateSettings { role: role.unwrap_or_else(|| nobodys.clone()), generation: 0, log_level: 0, linked: false };
    let made = interface.create("", host, &settings).and_then(|component| component.descriptor());
    Ok(made.map(|mut descriptor| {
        descriptor.role = descriptor.role.filter(|role| !(role_is_nobodys && *role == nobodys));
        descriptor
    }))
}

/// The line feed before it ends what the plugin may have written to the same place.
fn say(line: &Line) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}", serde_json::to_string(line)?)?;
    out.flush()
}
