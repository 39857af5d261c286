//! The first look: a plugin is opened in a child process before it is opened here.
//!
//! Constructors run while a library is opened, and before the layouts are compared nothing is known of what its entry does.
//! So this program starts itself again with the hidden subcommand [`SUBCOMMAND`], and the child ([`child`]) opens the copy
//! and says as lines of JSON on its standard output how far it has come and what it saw. Here, the child is waited for, with
//! a limit, and what it said or how it ended becomes a [`FirstLook`] or a refusal.

pub mod child;
mod looker;
mod said;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use plugin_api::border::root::Fingerprint;
use plugin_api::identity::Role;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::error::GateError;
use looker::{Looker, Stream};
pub use said::Described;
use said::{Said, last_words};

/// The hidden subcommand of the child; the copy's path follows it, and more where more is asked than a start needs.
pub const SUBCOMMAND: &str = "__first-look";

/// Makes the child ask what a component says of itself; a role follows it, or an empty text.
const DESCRIBE: &str = "describe";

/// This very program, also where its file has been replaced since it was started.
pub fn own_program() -> PathBuf {
    // The link's text tells whether it was. Its own name else: under valgrind, say, the link leads to that.
    let named = std::env::current_exe().ok().filter(|program| program.is_file());
    named.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// What a child saw in a plugin that fits this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstLook {
    /// How it was built.
    pub fingerprint: Fingerprint,
    /// The highest interface that plugin and host have in common.
    pub interface: u32,
    /// The JSON schema of its configuration; `true` allows everything.
    pub schema: Option<serde_json::Value>,
}

/// How far a first look has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The child is not there yet.
    Starting,
    /// The loader opens the file and runs its constructors.
    Opening,
    /// Its entry and its root module are asked.
    Asking,
    /// A component is made of an empty configuration; in a close look only.
    Creating,
    /// All was said; destructors run.
    Leaving,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Starting => "before it was opened",
            Self::Opening => "while it was being opened (its constructors run there)",
            Self::Asking => "while it was asked for its root module",
            Self::Creating => "while a component was made of an empty configuration",
            Self::Leaving => "after all was seen, at the process's end (its destructors run there)",
        })
    }
}

/// How a child ended that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a signal.
    Signal(i32),
    /// By itself.
    Exit(i32),
}

impl End {
    fn of(status: ExitStatus) -> Self {
        status.signal().map_or_else(|| Self::Exit(status.code().unwrap_or_default()), Self::Signal)
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Signal(number) => match SIGNALS.iter().find(|(signal, _)| signal.as_raw() == number) {
                Some((_, name)) => write!(formatter, "signal {number} ({name})"),
                None => write!(formatter, "signal {number}"),
            },
            Self::Exit(code) => write!(formatter, "exit code {code}"),
        }
    }
}

/// Those that a fault in a library ends a process with, and those that others send.
const SIGNALS: [(Signal, &str); 9] = [
    (Signal::SEGV, "SIGSEGV"),
    (Signal::BUS, "SIGBUS"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::ILL, "SIGILL"),
    (Signal::FPE, "SIGFPE"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::SYS, "SIGSYS"),
    (Signal::KILL, "SIGKILL"),
    (Signal::TERM, "SIGTERM"),
];

/// What was found out of a plugin by opening it, and by making a component of it.
#[derive(Debug, Default)]
pub struct CloseLook {
    /// What was seen, if it came so far.
    pub seen: Option<FirstLook>,
    /// What a component of it says of itself, if it came so far.
    pub described: Option<Described>,
    /// What it wrote to standard output, where it has nothing to say: the first line.
    pub wrote: Option<String>,
    /// Why a host would not open it, or how it ended the look.
    pub refused: Option<GateError>,
}

/// Opens the copy in a child process and gives what was seen there. `path` is the plugin's own path, for the messages.
///
/// The child is `program` with [`SUBCOMMAND`] and the copy's path; [`own_program`] but in tests.
///
/// # Errors
///
/// [`GateError::Handshake`], [`GateError::Ended`], [`GateError::TimedOut`] or [`GateError::Child`].
///
/// # Cancel safety
///
/// Dropped, it kills the child and waits until that is gone.
pub async fn first_look(program: &Path, copy: &Path, path: &Path, limit: Duration) -> Result<FirstLook, GateError> {
    let CloseLook { seen, refused, .. } = look(program, &[copy.as_os_str()], path, limit).await;
    match refused {
        Some(error) => Err(error),
        None => Ok(seen.expect("a look that ended well has seen something")),
    }
}

/// The same, and what a component of an empty configuration says of itself. One that plays any role is made for this one.
///
/// # Cancel safety
///
/// As [`first_look`].
pub async fn close_look(program: &Path, copy: &Path, path: &Path, limit: Duration, role: Option<&Role>) -> CloseLook {
    let role = role.map_or("", Role::as_str);
    look(program, &[copy.as_os_str(), OsStr::new(DESCRIBE), OsStr::new(role)], path, limit).await
}

async fn look(program: &Path, arguments: &[&OsStr], path: &Path, limit: Duration) -> CloseLook {
    match wait(program, arguments, limit).await {
        Ok(waited) => judge(waited, arguments.contains(&OsStr::new(DESCRIBE)), path, limit),
        Err(source) => {
            let refused = GateError::Child { path: path.to_owned(), source };
            CloseLook { refused: Some(refused), ..CloseLook::default() }
        }
    }
}

/// A child that has ended, by itself or at the limit.
struct Ended {
    in_time: bool,
    status: ExitStatus,
    said: Said,
    /// The last that was written to standard error.
    words: String,
}

async fn wait(program: &Path, arguments: &[&OsStr], limit: Duration) -> io::Result<Ended> {
    let mut looker = Looker::start(program, arguments)?;
    let ended = tokio::time::timeout(limit, looker.ended()).await.ok().transpose()?;
    let status = looker.kill_and_reap()?;
    let said = Said::of(&looker.said(Stream::Out)?);
    let words = last_words(&looker.said(Stream::Err)?);
    Ok(Ended { in_time: ended.is_some(), status, said, words })
}

fn judge(Ended { in_time, status, said, words }: Ended, describe: bool, path: &Path, limit: Duration) -> CloseLook {
    let Said { stage, seen, described, wrote } = said;
    let (path, complete) = (path.to_owned(), if describe { described.is_some() } else { seen.is_some() });
    let (seen, refused) = match seen {
        _ if !in_time => (seen.and_then(Result::ok), Some(GateError::TimedOut { path, stage, limit, words })),
        Some(Err(source)) if status.success() => (None, Some(GateError::Handshake { path, source })),
        // Without a word of what was asked for nothing was found out, whatever its code.
        _ if !status.success() || !complete => {
            let end = End::of(status);
            (seen.and_then(Result::ok), Some(GateError::Ended { path, stage, end, words }))
        }
        _ => (seen.and_then(Result::ok), None),
    };
    CloseLook { seen, described, wrote, refused }
}
