//! The first look: a plugin is opened in a child process before it is opened here.
//!
//! Constructors run while a library is opened, and before the layouts are compared nothing is known of what its entry does.
//! So this program starts itself again with the hidden subcommand [`SUBCOMMAND`], and the child ([`child`]) opens the copy
//! and says as lines of JSON on its standard output how far it has come and what it saw. Here, the child is waited for, with
//! a limit, and what it said or how it ended becomes a [`FirstLook`] or a refusal.

pub mod child;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use plugin_api::border::root::Fingerprint;
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

use super::error::GateError;
use super::handshake::HandshakeError;

/// The hidden subcommand of the child; the copy's path follows it.
pub const SUBCOMMAND: &str = "__first-look";

/// This very program, also where its file has been replaced since it was started.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

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
    /// All was said; destructors run.
    Leaving,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Starting => "before it was opened",
            Self::Opening => "while it was being opened (its constructors run there)",
            Self::Asking => "while it was asked for its root module",
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

/// A line that the child writes. Anything else on its standard output is the plugin's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Stage(Stage),
    Seen(Box<FirstLook>),
    Refused(HandshakeError),
}

/// Opens the copy in a child process and gives what was seen there. `path` is the plugin's own path, for the messages.
///
/// The child is `program` with [`SUBCOMMAND`] and the copy's path; [`OWN_PROGRAM`] but in tests.
///
/// # Errors
///
/// [`GateError::Handshake`], [`GateError::Ended`], [`GateError::TimedOut`] or [`GateError::Child`].
///
/// # Cancel safety
///
/// Dropped, it kills the child and waits until that is gone.
pub async fn first_look(program: &Path, copy: &Path, path: &Path, limit: Duration) -> Result<FirstLook, GateError> {
    let no_child = |source| GateError::Child { path: path.to_owned(), source };
    let mut looker = Looker::start(program, copy.as_os_str()).map_err(no_child)?;
    let ended = tokio::time::timeout(limit, looker.ended()).await;
    let status = looker.kill_and_reap().map_err(no_child)?;
    let (stage, outcome) = read_lines(&looker.said(Stream::Out).map_err(no_child)?);
    let words = || looker.said(Stream::Err).map(|text| last_words(&text)).map_err(no_child);
    match (ended, outcome) {
        (Err(_late), _) => Err(GateError::TimedOut { path: path.to_owned(), stage, limit, words: words()? }),
        (Ok(Err(source)), _) => Err(no_child(source)),
        (Ok(Ok(())), Some(Ok(seen))) if status.success() => Ok(seen),
        (Ok(Ok(())), Some(Err(source))) if status.success() => {
            Err(GateError::Handshake { path: path.to_owned(), source })
        }
        (Ok(Ok(())), _) => {
            Err(GateError::Ended { path: path.to_owned(), stage, end: End::of(status), words: words()? })
        }
    }
}

/// What the child has said: how far it came, and the result if it came to one.
fn read_lines(text: &str) -> (Stage, Option<Result<FirstLook, HandshakeError>>) {
    let (mut stage, mut outcome) = (Stage::Starting, None);
    for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match line {
            Line::Stage(reached) => stage = reached,
            Line::Seen(seen) => outcome = Some(Ok(*seen)),
            Line::Refused(error) => outcome = Some(Err(error)),
        }
    }
    (stage, outcome)
}

/// The last line, and the one before: a panic's message has two.
fn last_words(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(2)..].join(" ")
}

/// The child. What it writes goes to memory, not to pipes: so nothing has to read while it runs, and a process that the
/// plugin starts and leaves behind cannot hold the reading up.
struct Looker {
    process: Child,
    pidfd: OwnedFd,
    pid: Pid,
    out: File,
    err: File,
    status: Option<ExitStatus>,
}

#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

impl Looker {
    fn start(program: &Path, copy: &OsStr) -> io::Result<Self> {
        let out = File::from(rustix::fs::memfd_create("first-look-out", MemfdFlags::CLOEXEC)?);
        let err = File::from(rustix::fs::memfd_create("first-look-err", MemfdFlags::CLOEXEC)?);
        let mut process = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(copy)
            // Its end tells the child that this process is gone; see `child`.
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(err.try_clone()?)
            // A group of its own: what the plugin starts there is ended with it, and a Ctrl-C is the host's alone.
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&process);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        match pidfd {
            Ok(pidfd) => Ok(Self { process, pidfd, pid, out, err, status: None }),
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error.into())
            }
        }
    }

    /// Waits on a blocking thread until the child has ended, and does not reap it, so that its id stays its own until the
    /// group has been ended. Where nobody waits for that thread any longer, the child is killed, which ends it as well.
    async fn ended(&self) -> io::Result<()> {
        let pidfd = self.pidfd.try_clone()?;
        let wait = move || loop {
            match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                // It is no child any longer: `drop` has reaped it.
                Ok(_) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        };
        tokio::task::spawn_blocking(wait).await.map_err(io::Error::other)?
    }

    /// Ends the child's whole group and gives the child's status. A child that has ended already keeps its status.
    fn kill_and_reap(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // Before it is reaped: until then no other group can have this number. No such group is no error.
        match rustix::process::kill_process_group(self.pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        let status = self.process.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    fn said(&self, stream: Stream) -> io::Result<String> {
        /// The most that is read. What the child itself says is some KiB.
        const LIMIT: u64 = 4 * 1024 * 1024;
        let mut file = match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        };
        let size = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(size.saturating_sub(LIMIT)))?;
        let mut bytes = Vec::new();
        file.take(LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        if let Err(error) = self.kill_and_reap() {
            tracing::warn!(pid = self.pid.as_raw_nonzero(), %error, "the child of a first look could not be ended");
        }
    }
}
