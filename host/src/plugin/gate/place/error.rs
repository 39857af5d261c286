//! What is wrong with a place.

use std::io;
use std::path::{Path, PathBuf};

use super::entry::Writer;

/// A place that is not safe to load from.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The path leads to nothing, or to nothing that may be read.
    #[error("cannot look at {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{path} is {found}: expected a regular file")]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file is outside the plugin directories.
    #[error(
        "{resolved}{} is outside the plugin directories ({}): put the file there, or add its directory to plugins.dirs",
        came_by(.path, .resolved), list(.dirs)
    )]
    Outside {
        /// The path as it was given.
        path: PathBuf,
        /// Where it leads, with all links resolved.
        resolved: PathBuf,
        /// The plugin directories.
        dirs: Vec<PathBuf>,
    },
    /// Somebody else owns the file or a directory above it, and so can change it.
    #[error(
        "{path} belongs to user {owner}: expected root or the host's user ({host_uid}), since its owner can change what is \
         loaded; `chown` it, or run the host as that user"
    )]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// The user who owns it.
        owner: u32,
        /// The host's user.
        host_uid: u32,
    },
    /// The same, where everybody may put files, as in `/tmp`.
    #[error(
        "{path} belongs to user {owner} and stands in the sticky directory {sticky}, where everybody may put files: \
         expected an entry of root or of the host's user ({host_uid}); move the plugin to a directory of its own"
    )]
    StickyOwner {
        /// The file or directory.
        path: PathBuf,
        /// The sticky directory that holds it.
        sticky: PathBuf,
        /// The user who owns it.
        owner: u32,
        /// The host's user.
        host_uid: u32,
    },
    /// Others can write the file, or exchange it in its directory.
    #[error(
        "{path} can be written by {writer} (mode {mode:04o}): whoever can write there can change what is loaded; \
         `chmod go-w {path}`, or for a directory that is safe for a reason the host cannot see set plugins.trusted_root \
         below it"
    )]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Who can write it.
        writer: Writer,
    },
}

fn came_by(path: &Path, resolved: &Path) -> String {
    if path == resolved { String::new() } else { format!(" (where {} leads)", path.display()) }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
