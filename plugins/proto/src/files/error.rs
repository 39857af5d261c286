//! Why a file of vectors is refused.

use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};

/// So much of what was found is told: a header may hold 64 KiB of anything, and a status is a few lines.
const MAX_FOUND_CHARS: usize = 100;

/// Why a file of vectors is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No folder is configured.
    #[error("{path}: data_dirs in the component's configuration is empty, so no file may be read")]
    NoDataDirs {
        /// The file.
        path: PathBuf,
    },
    /// No path has so many bytes; it is not repeated.
    #[error("the path has {found} bytes, at most {most} are allowed")]
    PathTooLong {
        /// How many it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// It lies elsewhere.
    #[error("{path} is {resolved}, which is in none of the data_dirs ({allowed})")]
    Outside {
        /// The file, as it was named.
        path: PathBuf,
        /// Where it is, with links resolved.
        resolved: PathBuf,
        /// The folders that are allowed.
        allowed: String,
    },
    /// It is in none of the folders.
    #[error("{path}: there is no such file in any of the data_dirs ({searched})")]
    NotFound {
        /// The file, as it was named.
        path: PathBuf,
        /// The folders that were searched.
        searched: String,
    },
    /// It cannot be opened or read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("{path} is {kind}, and no regular file")]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It is not what it has to be.
    #[error("{path}: {what} has to be {expected}, found {found}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What it has to be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Somebody has written to it between its opening and its last row.
    #[error("{path} has changed while it was read: {what}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What shows it.
        what: String,
    },
}

impl FileError {
    /// The gRPC code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::NoDataDirs { .. } => Code::FailedPrecondition,
            Self::Outside { .. } => Code::PermissionDenied,
            Self::NotFound { .. } => Code::NotFound,
            Self::Read { source, .. } => code_of(source),
            Self::PathTooLong { .. } | Self::NotAFile { .. } | Self::Content { .. } => Code::InvalidArgument,
            Self::Changed { .. } => Code::Aborted,
        }
    }
}

/// The gRPC code of what the operating system refuses.
pub fn code_of(error: &io::Error) -> Code {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => Code::NotFound,
        Some(Errno::ACCESS | Errno::PERM) => Code::PermissionDenied,
        Some(Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL) => Code::InvalidArgument,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC) => Code::ResourceExhausted,
        _ => Code::Unavailable,
    }
}

impl From<FileError> for Status {
    fn from(error: FileError) -> Self {
        Self::new(error.code(), plugin_api::error::chain(&error))
    }
}

/// What is wrong with a file's content; the file's name is added where it is known.
pub(super) struct Wrong {
    what: String,
    expected: String,
    found: String,
}

impl Wrong {
    pub(super) fn new(what: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(MAX_FOUND_CHARS) {
            found.replace_range(end.., "…");
        }
        Self { what: what.to_string(), expected: expected.to_string(), found }
    }
}

/// A part of a file cannot be had: it cannot be read, is not what it has to be, or not what it was.
pub(super) enum PartError {
    Read(io::Error),
    Wrong(Wrong),
    Changed(String),
}

impl PartError {
    pub(super) fn of(self, path: PathBuf) -> FileError {
        match self {
            Self::Read(source) => FileError::Read { path, source },
            Self::Wrong(Wrong { what, expected, found }) => FileError::Content { path, what, expected, found },
            Self::Changed(what) => FileError::Changed { path, what },
        }
    }
}

impl From<io::Error> for PartError {
    fn from(source: io::Error) -> Self {
        Self::Read(source)
    }
}

impl From<Wrong> for PartError {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}
