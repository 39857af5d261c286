//! The directory of a journal: made where it is missing, and held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::DataError;

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The system's lock goes with it, however the process ends.
    _lock: File,
}

impl Directory {
    /// Makes the directory where there is none, for its user alone, and takes it.
    pub(super) fn lock(path: &Path) -> Result<Self, DataError> {
        let open = |source| DataError::Open { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(open)?;
        let mut lock = options().truncate(false).open(path.join("lock")).map_err(open)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(open)?;
                return Err(DataError::Held { path: path.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(open(source)),
        }
        let named = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        named.map_err(open)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    fn new_journal(&self) -> PathBuf {
        self.path.join("journal.new")
    }

    /// The journal's bytes, where there is one.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, DataError> {
        match std::fs::read(self.journal()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataError::Read { path: self.journal(), source }),
        }
    }

    /// The journal, to be written on from this offset: what comes after it is cut off.
    pub(super) fn reopen(&self, size: u64) -> Result<File, DataError> {
        let write = |source| DataError::Write { path: self.journal(), source };
        let mut file = options().truncate(false).open(self.journal()).map_err(write)?;
        let cut = file.set_len(size).and_then(|()| file.seek(SeekFrom::End(0))).and_then(|_| file.sync_all());
        cut.map_err(write)?;
        Ok(file)
    }

    /// An empty journal that is not in its place yet.
    pub(super) fn create(&self) -> Result<File, DataError> {
        let path = self.new_journal();
        options().truncate(true).open(&path).map_err(|source| DataError::Write { path, source })
    }

    /// Puts the new journal, whose content is durable, into its place.
    pub(super) fn publish(&self) -> Result<(), DataError> {
        let moved = std::fs::rename(self.new_journal(), self.journal());
        // The name is durable once the directory is.
        let synced = moved.and_then(|()| File::open(&self.path)?.sync_all());
        synced.map_err(|source| DataError::Write { path: self.journal(), source })
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}
