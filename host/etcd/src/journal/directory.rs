//! The directory: made where it is missing, held by one process at a time; which files it has, and how they come and go.
//!
//! | file | what it is |
//! | --- | --- |
//! | `lock` | the process that has it |
//! | `cluster` | the id of the cluster whose data this is, and the last journal that may have something |
//! | `base.N` | all that there was when `journal.N` began |
//! | `journal.N` | what came since; `journal.N+1` goes on where a later base is being written |
//! | `journal.N.cut-O` | the bytes of an unfinished write that were cut off at `O` |
//!
//! A file that a start needs has its name only once its content is durable, and is used once its name is.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{Damage, DataError};

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Itself, to make names durable: opened while there is a descriptor for it.
    itself: File,
    /// The system's lock goes with it, however the process ends.
    _lock: File,
}

/// What a directory has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was kept here so far.
    Nothing,
    /// The newest base, and the journals from there on.
    Kept { base: u64, journals: Vec<u64> },
}

impl Directory {
    /// Makes the directory where there is none, for its user alone, and takes it.
    pub(super) fn lock(path: &Path) -> Result<Self, DataError> {
        let open = |source| DataError::Open { path: path.to_owned(), source };
        make(path).map_err(open)?;
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
        let itself = File::open(path).map_err(open)?;
        Ok(Self { path: path.to_owned(), itself, _lock: lock })
    }

    pub(super) fn base(&self, number: u64) -> PathBuf {
        self.path.join(format!("base.{number}"))
    }

    pub(super) fn journal(&self, number: u64) -> PathBuf {
        self.path.join(format!("journal.{number}"))
    }

    fn cluster(&self) -> PathBuf {
        self.path.join("cluster")
    }

    /// Which files are to be read.
    ///
    /// # Errors
    ///
    /// One that has to be there is missing.
    pub(super) fn find(&self) -> Result<Found, DataError> {
        let (bases, mut journals) = (self.numbers("base")?, self.numbers("journal")?);
        let begun = self.begun()?;
        let missing = |path| Err(DataError::Missing { path, directory: self.path.clone() });
        let Some(base) = bases.last().copied() else {
            // A first start that was interrupted has left its first journal, and no more.
            let has_begun = begun.is_some() || journals.last().is_some_and(|last| *last > FIRST);
            return if has_begun {
                missing(self.base(journals.first().copied().unwrap_or(FIRST)))
            } else {
                Ok(Found::Nothing)
            };
        };
        journals.retain(|number| *number >= base);
        let present = (base..).zip(&journals).take_while(|(expected, number)| expected == *number).count();
        let next = base + present as u64;
        if present == 0 || present < journals.len() || begun.is_some_and(|last| next <= last) {
            return missing(self.journal(next));
        }
        Ok(Found::Kept { base, journals })
    }

    /// The numbers of the files of a kind, in order.
    fn numbers(&self, kind: &str) -> Result<Vec<u64>, DataError> {
        let read = |source| DataError::Read { path: self.path.clone(), source };
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(kind)?.strip_prefix('.')?.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A file that was found, to be read.
    pub(super) fn read(path: &Path) -> Result<File, DataError> {
        File::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
    }

    /// A file that was found, to be written on.
    pub(super) fn write(path: &Path) -> Result<File, DataError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.map_err(|source| DataError::Write { path: path.to_owned(), source })
    }

    /// An empty file that gets its name by [`Directory::publish`].
    pub(super) fn create(&self, path: &Path) -> Result<File, DataError> {
        let new = unpublished(path);
        options().truncate(true).open(&new).map_err(|source| DataError::Write { path: new, source })
    }

    /// Gives a file, whose content is durable, its name.
    pub(super) fn publish(&self, path: &Path) -> Result<(), DataError> {
        let moved = std::fs::rename(unpublished(path), path);
        let synced = moved.and_then(|()| self.itself.sync_all());
        synced.map_err(|source| DataError::Write { path: path.to_owned(), source })
    }

    /// Writes a small file whole.
    fn put(&self, path: &Path, content: &[u8]) -> Result<(), DataError> {
        let mut file = self.create(path)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(|source| DataError::Write { path: path.to_owned(), source })?;
        self.publish(path)
    }

    /// Names that were given before are durable: a process may have ended in between.
    pub(super) fn sync(&self) -> Result<(), DataError> {
        self.itself.sync_all().map_err(|source| DataError::Write { path: self.path.clone(), source })
    }

    /// From now on this directory is never taken for an empty one, nor for one that ends before this journal. Where that is
    /// known already nothing is written, for which a full disk would have no room.
    pub(super) fn begin(&self, cluster_id: u64, journal: u64) -> Result<(), DataError> {
        if self.begun()? == Some(journal) {
            return self.sync();
        }
        self.put(&self.cluster(), format!("{cluster_id:x} {journal}\n").as_bytes())
    }

    /// The last journal that may have something, where it was begun.
    pub(super) fn begun(&self) -> Result<Option<u64>, DataError> {
        let path = self.cluster();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataError::Read { path, source }),
        };
        let last = text.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
        last.map(Some).ok_or(DataError::Damaged { path, offset: 0, damage: Damage::Format })
    }

    /// Takes back a file that could not be put into use, with its name or without.
    pub(super) fn forget(&self, path: &Path) -> Result<(), DataError> {
        for path in [unpublished(path), path.to_owned()] {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(DataError::Write { path, source });
                }
                _ => {}
            }
        }
        self.sync()
    }

    /// Keeps bytes that are cut off a journal, so that nothing is lost should somebody miss them.
    pub(super) fn keep_cut(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), DataError> {
        self.put(&self.path.join(format!("journal.{number}.cut-{offset}")), bytes)
    }

    /// Removes what came before a base that is durable, and what was not finished. What cannot be removed is removed by the
    /// next start.
    pub(super) fn tidy(&self, base: u64) {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((kind, rest)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let number = rest.split('.').next().and_then(|number| number.parse::<u64>().ok());
            let is_ours = matches!(kind, "base" | "journal");
            if is_ours && (rest.ends_with(UNPUBLISHED) || number.is_some_and(|number| number < base)) {
                // It takes room, and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// The number of the first base and the first journal.
pub(super) const FIRST: u64 = 1;

/// How a file is called before its content is durable.
const UNPUBLISHED: &str = ".new";

fn unpublished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNPUBLISHED);
    name.into()
}

/// Makes a directory with all that is missing above it, durably.
fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|one| !one.as_os_str().is_empty() && !one.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // Its own name each time: a process may have ended in between.
    for one in missing.into_iter().chain([path]) {
        let above = one.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}
