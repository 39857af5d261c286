//! The private copy of a plugin: what is opened in the place of the file itself.
//!
//! A file that is written over while it is mapped kills the process, and the loader gives the old library again for the same
//! path, a link to it, or the same file under another name. So each generation gets a file of its own: copied, never
//! linked, in a directory that only the host's user can enter. It can be unlinked as soon as it is open.
//!
//! It has what is mapped of the plugin, and no more: an unlinked file keeps its place on the disk for as long as it is
//! mapped, which is for the life of the process, and most of a debug build is for debuggers. So the copy has a hash of its
//! own. It is made of the bytes that the gate has read and hashed: whatever becomes of the file meanwhile, what is opened is
//! what passed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::gate::place::{self, PlaceError, PlaceRules};
use super::gate::{Admitted, Digest};

/// No copy, or one that may not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The directory for the copies cannot be made or looked at.
    #[error("the directory {dir} for the copies of plugins cannot be used")]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory for the copies can be changed by others, by way of a directory above it.
    #[error("the directory {dir} for the copies of plugins is not private, because of the place that it lies in")]
    Place {
        /// The directory.
        dir: PathBuf,
        /// What is wrong there.
        source: PlaceError,
    },
    /// The directory for the copies is open to others.
    #[error(
        "the directory {dir} for the copies of plugins is not private: expected user {host_uid} and mode 0700, found user \
         {owner} and mode {mode:04o}; remove it, the host makes it again"
    )]
    NotPrivate {
        /// The directory.
        dir: PathBuf,
        /// The host's user.
        host_uid: u32,
        /// The user who owns it.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// The copy cannot be written or read.
    #[error("the plugin {path} cannot be copied to {dir}")]
    Io {
        /// The plugin.
        path: PathBuf,
        /// Where to.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The copy is not what was written.
    #[error(
        "the private copy {path}, of a plugin with sha256 {plugin}, changed before it was opened: expected sha256 {expected}, \
         found {found}; no one but the host may write there"
    )]
    CopyChanged {
        /// The copy.
        path: PathBuf,
        /// The plugin's hash, which passed the gate.
        plugin: Digest,
        /// What was written.
        expected: Digest,
        /// What is there now.
        found: Digest,
    },
}

/// A private copy; dropped, it is unlinked. An open library does not need it any longer.
#[derive(Debug)]
pub struct PrivateCopy {
    path: tempfile::TempPath,
    /// Of the copy.
    sha256: Digest,
    /// Of the whole plugin.
    plugin: Digest,
}

impl PrivateCopy {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, after its content was hashed once more: to be asked for right before it is opened.
    ///
    /// # Errors
    ///
    /// [`CopyError::CopyChanged`], or that it cannot be read.
    pub fn verified_path(&self) -> Result<&Path, CopyError> {
        let path = self.path();
        let io_error = |source| {
            let dir = path.parent().unwrap_or(path).to_owned();
            CopyError::Io { path: path.to_owned(), dir, source }
        };
        let found = File::open(path).and_then(Digest::of_reader).map_err(io_error)?;
        if found == self.sha256 {
            Ok(path)
        } else {
            Err(CopyError::CopyChanged { path: path.to_owned(), plugin: self.plugin, expected: self.sha256, found })
        }
    }
}

/// Copies what is mapped of an admitted plugin to the private directory `dir`, which is made where it is not there, under a
/// name with the whole content's hash and the generation's number.
///
/// # Errors
///
/// [`CopyError`]; nothing is left behind.
pub fn private_copy(admitted: &Admitted, dir: &Path, generation: u64) -> Result<PrivateCopy, CopyError> {
    make_private(dir, &admitted.trusted_root)?;
    let io_error = |source| CopyError::Io { path: admitted.path.clone(), dir: dir.to_owned(), source };
    let stem = admitted.path.file_stem().unwrap_or_default().to_string_lossy();
    let prefix = format!("{stem}.{}.g{generation}.", admitted.sha256.short());
    // It makes a new file (`O_EXCL`) of mode 0600, and a few letters of its own keep it from a file that a killed host left.
    let copy = tempfile::Builder::new().prefix(&prefix).suffix(".so").tempfile_in(dir).map_err(io_error)?;
    let bytes = &admitted.image.0;
    copy.as_file().write_all(bytes).map_err(io_error)?;
    Ok(PrivateCopy { path: copy.into_temp_path(), sha256: Digest::of(bytes), plugin: admitted.sha256 })
}

fn make_private(dir: &Path, trusted_root: &Path) -> Result<(), CopyError> {
    let dir_error = |source| CopyError::Dir { dir: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(dir_error)?;
    let found = fs::symlink_metadata(dir).map_err(dir_error)?;
    let host_uid = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    if !found.is_dir() || found.uid() != host_uid || mode & 0o077 != 0 {
        return Err(CopyError::NotPrivate { dir: dir.to_owned(), host_uid, owner: found.uid(), mode });
    }
    place::check_dir(dir, &PlaceRules { dirs: &[], trusted_root, host_uid })
        .map_err(|source| CopyError::Place { dir: dir.to_owned(), source })
}

#[cfg(test)]
mod tests;
