//! Why a file is not opened as a plugin.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use plugin_api::identity::Role;
use semver::{Version, VersionReq};

use super::digest::Digest;
use super::elf::ElfError;
use super::first_look::{End, Stage};
use super::handshake::HandshakeError;
use super::place::PlaceError;

/// A refusal of the gate. Where it has a source, that says what was expected and found; print the chain.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// No such plugin.
    #[error("there is no plugin {name}; looked at {}", list(.looked))]
    NotFound {
        /// The name or path, as it was given.
        name: PathBuf,
        /// Every place that was looked at.
        looked: Vec<Looked>,
    },
    /// The file lies in a place that is not safe.
    #[error("the plugin {path} is not opened, because of the place that it lies in")]
    Place {
        /// The file, as it was asked for.
        path: PathBuf,
        /// What is wrong there.
        source: PlaceError,
    },
    /// The file cannot be read.
    #[error("the plugin {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The content is not what the configuration pins.
    #[error(
        "the plugin {path} has another hash than the configuration pins: expected sha256 {expected}, found {found}; if the \
         new file is the wanted one, pin its hash"
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// The pinned hash.
        expected: Digest,
        /// That of the content.
        found: Digest,
    },
    /// The file is no plugin for this machine.
    #[error("{path} cannot be opened as a plugin")]
    NoPlugin {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ElfError,
    },
    /// The child process of the first look could not be had.
    #[error("the child process for the first look at the plugin {path} could not be run")]
    Child {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The plugin ended the child process in which it was opened.
    #[error(
        "the plugin {path} ended the process that looked at it {stage}: {end}{}; it would have ended the host",
        said(.words)
    )]
    Ended {
        /// The file.
        path: PathBuf,
        /// What was being done.
        stage: Stage,
        /// How it ended.
        end: End,
        /// The last that the process wrote.
        words: String,
    },
    /// The plugin kept the child process for too long.
    #[error(
        "the first look at the plugin {path} took more than {} {stage}{}; it would have held the host up \
         (plugins.first_look_timeout)",
        humantime::format_duration(*.limit), said(.words)
    )]
    TimedOut {
        /// The file.
        path: PathBuf,
        /// What was being done.
        stage: Stage,
        /// The limit.
        limit: Duration,
        /// The last that the process wrote.
        words: String,
    },
    /// It could be opened, and what it says of itself does not fit this host.
    #[error("the plugin {path} does not fit this host")]
    Handshake {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: HandshakeError,
    },
    /// The component plays another role.
    #[error("the plugin {path} plays the role {found}: expected {expected}, in whose section it is named")]
    Role {
        /// The file.
        path: PathBuf,
        /// The role of the section.
        expected: Role,
        /// The component's.
        found: Role,
    },
    /// The component's version is not allowed.
    #[error("the plugin {path} has the version {found}: the configuration allows {expected}")]
    Version {
        /// The file.
        path: PathBuf,
        /// What the configuration allows.
        expected: VersionReq,
        /// The component's.
        found: Version,
    },
}

/// A place where a plugin was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The place.
    pub path: PathBuf,
    /// Why there was nothing.
    pub found: io::ErrorKind,
}

impl fmt::Display for Looked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            io::ErrorKind::NotFound => write!(formatter, "{}", self.path.display()),
            other => write!(formatter, "{} ({other})", self.path.display()),
        }
    }
}

fn list(looked: &[Looked]) -> String {
    match looked {
        [] => "no place, since there are no plugin directories (plugins.dirs)".to_owned(),
        _ => looked.iter().map(Looked::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("; its last words were: {words}") }
}
