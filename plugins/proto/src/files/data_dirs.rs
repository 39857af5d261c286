//! The folders that files of vectors may be read from.
//!
//! What is checked is the very file that is read, not its path: a path may lead elsewhere a moment later. So a file is
//! opened first, in a way that reads nothing and wakes no pipe or device; then the kernel says where that file is, and only
//! then is the same file opened for reading, through its descriptor.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open, readlinkat};
use rustix::io::Errno;

use super::{FileError, VectorFile};

/// `PATH_MAX`: the kernel takes no longer path.
const MAX_PATH_BYTES: usize = 4096;

/// The folders of `data_dirs`, in the configured order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataDirs(Vec<PathBuf>);

impl DataDirs {
    /// These folders. They need not be there yet.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self(dirs)
    }

    /// Opens a file of vectors and reads its header. A relative path is looked for in each folder, in order. Links are
    /// followed; where they end is what counts. A hard link is a file like any other: who may make one in a data dir of a
    /// file elsewhere is the kernel's to say (`fs.protected_hardlinks`).
    ///
    /// # Errors
    ///
    /// [`FileError`] where no folder is configured, the file is in none of them, a link leads out of them, or it cannot be
    /// read or is no whole file of float32 vectors.
    pub fn open(&self, path: &Path) -> Result<VectorFile, FileError> {
        let (resolved, found) = self.find(path)?;
        let unreadable = |source: io::Error| FileError::Read { path: resolved.clone(), source };
        let kind = FileType::from_raw_mode(fstat(&found).map_err(|error| unreadable(error.into()))?.st_mode);
        if kind != FileType::RegularFile {
            return Err(FileError::NotAFile { path: resolved, kind: name_of(kind) });
        }
        let file = File::open(of_descriptor(&found)).map_err(unreadable)?;
        VectorFile::new(resolved, file)
    }

    /// The file of that path, not open for reading yet, and where it is with links resolved.
    fn find(&self, path: &Path) -> Result<(PathBuf, OwnedFd), FileError> {
        let bytes = path.as_os_str().len();
        if bytes > MAX_PATH_BYTES {
            return Err(FileError::PathTooLong { found: bytes, most: MAX_PATH_BYTES });
        }
        if self.0.is_empty() {
            return Err(FileError::NoDataDirs { path: path.to_owned() });
        }
        // An absolute path stays as it is when it is joined.
        for candidate in self.0.iter().map(|dir| dir.join(path)) {
            match open(&candidate, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Ok(found) => return self.check(path, candidate, found),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(FileError::Read { path: candidate, source: error.into() }),
            }
        }
        Err(FileError::NotFound { path: path.to_owned(), searched: self.list() })
    }

    fn check(&self, path: &Path, candidate: PathBuf, found: OwnedFd) -> Result<(PathBuf, OwnedFd), FileError> {
        let resolved = readlinkat(CWD, of_descriptor(&found), Vec::new())
            .map_err(|error| FileError::Read { path: candidate, source: error.into() })?;
        let resolved = PathBuf::from(OsString::from_vec(resolved.into_bytes()));
        let holds = |dir: &PathBuf| dir.canonicalize().is_ok_and(|dir| resolved.starts_with(dir));
        if self.0.iter().any(holds) {
            Ok((resolved, found))
        } else {
            Err(FileError::Outside { path: path.to_owned(), resolved, allowed: self.list() })
        }
    }

    fn list(&self) -> String {
        let dirs: Vec<_> = self.0.iter().map(|dir| dir.display().to_string()).collect();
        dirs.join(", ")
    }
}

/// Leads to the very file of a descriptor, whatever its path leads to by now.
fn of_descriptor(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a folder",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Symlink | FileType::Unknown => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests;
