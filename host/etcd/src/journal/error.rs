//! Why a data directory is refused.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A data directory that cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// It cannot be made or opened.
    #[error("cannot open the data directory {path}")]
    Open {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two processes would write over one another.
    #[error("the data directory {path} is in use by process {holder}")]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that it needs is not there.
    #[error(
        "{path} is missing, and {directory} has data that needs it; restore the directory from a copy, or move all of it away to begin empty"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// What is in it is not what was written.
    #[error(
        "{path} is damaged at byte {offset}: {damage}; restore the directory from a copy, or move all of it away to begin empty"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        damage: Damage,
    },
}

/// What does not fit in a journal.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// The first bytes are others.
    #[error("it is no file of an embedded etcd, or one of another format")]
    Format,
    /// The head of a frame is not what was written.
    #[error("the checksum of a frame's head is wrong")]
    Head,
    /// The content of a frame is not what was written, or not what was written there.
    #[error("the checksum of a frame is wrong")]
    Content,
    /// A part of a frame is empty, and others come after it.
    #[error("a part of it is empty, and more was written after it")]
    Hole,
    /// The file ends before it is over.
    #[error("the file was cut off here or later")]
    Short,
    /// A frame holds what is no record.
    #[error("a record cannot be read")]
    Record,
    /// A revision is missing.
    #[error("revision {found} follows revision {present}")]
    Gap {
        /// The last one.
        present: i64,
        /// The one that is there.
        found: i64,
    },
    /// Nothing says whose it is.
    #[error("it names no cluster")]
    Identity,
}
