//! The data directory: what requests have changed, in the order in which they did.
//!
//! Everything is in memory; a start reads it again, so that a log suffices and no database is needed: one write and one
//! `fdatasync` make all requests durable that came meanwhile. A base has all that there was at one moment, a journal what came
//! since. Where the journals have become large beside their base, the next journal begins, and a thread writes a base before
//! it while requests go on; what came before is removed once that base is durable. A failure to write it loses nothing.
//!
//! A journal has room that is written already, as zeros: so a write changes nothing but bytes that are there, which
//! spares a disk much, and a file that somebody has cut off is known by its end. Only the last write can be unfinished after a
//! crash, and nobody was answered for it. All else that does not fit is damage, and is refused with file and offset.

mod base;
mod directory;
mod error;
mod frame;
mod record;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

pub use self::base::Image;
pub use self::error::{Damage, DataError};

use self::directory::{Directory, FIRST, Found};
use self::frame::{Chain, Frames, SECTOR, Scan};
use self::record::{Record, decode};
use crate::identity::Identity;
use crate::machine::{Effect, Machine};

/// With what each file's first frame begins; another number would be another format.
const MAGIC: &[u8; 8] = b"CHETCD\x00\x02";

/// Smaller journals are not worth another base.
const LARGE: u64 = 16 << 20;

/// By how much a journal's file grows.
const ROOM: u64 = 256 << 10;

/// An open data directory, which nobody else has. Dropped, it writes no base any more.
pub struct Journal {
    directory: Arc<Directory>,
    cluster_id: u64,
    opened: Opened,
    /// The bytes of the base, and of journals between it and the one that is open.
    base: u64,
    between: u64,
    /// No base is written before the journals have so many bytes.
    not_below: u64,
    rewriting: Option<JoinHandle<Result<Option<u64>, DataError>>>,
    stop: Arc<AtomicBool>,
}

/// A journal's file that can be written on.
struct Opened {
    number: u64,
    path: PathBuf,
    file: File,
    chain: Chain,
    /// Where the next write begins.
    offset: u64,
    /// The file's length: what comes after `offset` is zeros.
    length: u64,
}

/// Adds what a request has changed to the bytes of the next write.
pub fn encode(effect: &Effect, bytes: &mut Vec<u8>) {
    Record::of(effect).encode_to(bytes);
}

fn damaged(path: &Path, offset: u64, damage: Damage) -> DataError {
    DataError::Damaged { path: path.to_owned(), offset, damage }
}

impl Journal {
    /// Opens a directory, or makes it, for a cluster of this id where one is given, and returns what it has kept.
    ///
    /// # Errors
    ///
    /// As [`DataError`] has them: another process has it, or what is in it cannot be read or is damaged.
    pub fn open(path: &Path, cluster_id: Option<u64>) -> Result<(Self, Identity, Machine), DataError> {
        let directory = Arc::new(Directory::lock(path)?);
        let mut machine = Machine::default();
        let (mut journal, identity) = match directory.find()? {
            Found::Nothing => {
                let identity = Identity::new(cluster_id);
                (Self::begin(directory, &identity, &machine)?, identity)
            }
            Found::Kept { base, journals } => {
                let (journal, identity) = restore(directory, base, &journals, &mut machine)?;
                (journal, Identity { raft_term: identity.raft_term + 1, ..identity })
            }
        };
        let mut start = Vec::new();
        Record::start(identity.raft_term).encode_to(&mut start);
        journal.append(&start)?;
        Ok((journal, identity, machine))
    }

    /// The first files of a directory.
    fn begin(directory: Arc<Directory>, identity: &Identity, machine: &Machine) -> Result<Self, DataError> {
        directory.tidy(FIRST);
        let chain = Chain::default();
        let opened = Opened::begin(&directory, FIRST, chain)?;
        let base = Image::of(identity, machine).write(&directory, FIRST, chain, &AtomicBool::new(false))?;
        directory.begin(identity.cluster_id, FIRST)?;
        Ok(Self::on(directory, identity.cluster_id, opened, (base.unwrap_or_default(), 0)))
    }

    fn on(directory: Arc<Directory>, cluster_id: u64, opened: Opened, (base, between): (u64, u64)) -> Self {
        let (stop, rewriting) = (Arc::default(), None);
        Self { directory, cluster_id, opened, base, between, not_below: LARGE, rewriting, stop }
    }

    /// Makes what [`encode`] has collected durable.
    ///
    /// # Errors
    ///
    /// The system's. What is durable is not known then, and nothing may be written any more.
    pub fn append(&mut self, records: &[u8]) -> Result<(), DataError> {
        let written = self.opened.append(records);
        written.map_err(|source| DataError::Write { path: self.opened.path.clone(), source })
    }

    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.base + self.between + self.opened.length
    }

    /// Are the journals large enough for another base?
    pub fn is_large(&mut self) -> bool {
        if self.rewriting.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(rewriting) = self.rewriting.take()
        {
            self.rewritten(rewriting);
        }
        self.rewriting.is_none() && self.journals() > self.not_below.max(2 * self.base)
    }

    fn journals(&self) -> u64 {
        self.between + self.opened.offset
    }

    /// Begins the next journal, and a base before it in a thread of its own. The image is of all that was appended. What fails
    /// is tried again when the journals have doubled.
    ///
    /// # Errors
    ///
    /// The next journal was begun, cannot be used, and cannot be removed: nothing may be written any more.
    pub fn rewrite(&mut self, image: Image) -> Result<(), DataError> {
        let (next, chain) = (self.opened.number + 1, self.opened.chain);
        let opened = Opened::begin(&self.directory, next, chain);
        // Before anything in it is acknowledged, a start knows that it has to be there.
        let opened = opened.and_then(|opened| self.directory.begin(self.cluster_id, next).map(|()| opened));
        match opened {
            Ok(opened) => {
                self.between += self.opened.length;
                self.opened = opened;
                let (directory, stop) = (Arc::clone(&self.directory), Arc::clone(&self.stop));
                let write = move || {
                    let written = image.write(&directory, next, chain, &stop)?;
                    if written.is_some() {
                        directory.tidy(next);
                    }
                    Ok(written)
                };
                let thread = std::thread::Builder::new().name("etcd-base".to_owned()).spawn(write);
                match thread {
                    Ok(thread) => self.rewriting = Some(thread),
                    Err(source) => self.not_rewritten(&DataError::Write { path: self.directory.base(next), source }),
                }
            }
            Err(error) => {
                self.not_rewritten(&error);
                // What is appended now is not what it follows on.
                self.directory.begin(self.cluster_id, self.opened.number)?;
                self.directory.forget(&self.directory.journal(next))?;
            }
        }
        Ok(())
    }

    fn rewritten(&mut self, thread: JoinHandle<Result<Option<u64>, DataError>>) {
        match thread.join() {
            Ok(Ok(Some(bytes))) => (self.base, self.between, self.not_below) = (bytes, 0, LARGE),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.not_rewritten(&error),
            Err(_) => {
                tracing::error!("the thread that writes a base of the embedded etcd has panicked");
                self.not_below = 2 * self.journals();
            }
        }
    }

    fn not_rewritten(&mut self, error: &DataError) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, cause, "the embedded etcd's journals grow on: no base could be written before them");
        self.not_below = 2 * self.journals();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.rewriting.take() {
            self.rewritten(thread);
        }
    }
}

impl Opened {
    /// The next journal, which goes on with this chain.
    fn begin(directory: &Directory, number: u64, mut chain: Chain) -> Result<Self, DataError> {
        let path = directory.journal(number);
        let file = directory.create(&path)?;
        let mut bytes = Vec::new();
        chain.add(MAGIC, &mut bytes);
        let written = fill(&file, 0, ROOM).and_then(|()| {
            file.write_all_at(&bytes, 0)?;
            file.sync_all()
        });
        written.map_err(|source| DataError::Write { path: path.clone(), source })?;
        directory.publish(&path)?;
        Ok(Self { number, path, file, chain, offset: bytes.len() as u64, length: ROOM })
    }

    fn append(&mut self, records: &[u8]) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(records.len() + SECTOR);
        self.chain.add(records, &mut bytes);
        let end = self.offset + bytes.len() as u64;
        self.make_room(end)?;
        self.file.write_all_at(&bytes, self.offset)?;
        self.file.sync_data()?;
        self.offset = end;
        Ok(())
    }

    /// The file has an empty sector after this offset, durably.
    fn make_room(&mut self, end: u64) -> std::io::Result<()> {
        let needed = end + SECTOR as u64;
        if needed > self.length {
            let length = needed.next_multiple_of(ROOM);
            fill(&self.file, self.length, length)?;
            self.length = length;
        }
        Ok(())
    }

    /// Writes the last frame once more: where the disk failed in the process before this one, the system may take for written
    /// what only it has.
    fn write_again(&self, last: u64) -> std::io::Result<()> {
        let mut bytes = vec![0; usize::try_from(self.offset - last).expect("a write fits into memory")];
        self.file.read_exact_at(&mut bytes, last)?;
        self.file.write_all_at(&bytes, last)?;
        self.file.sync_all()
    }
}

/// Writes zeros, durably.
fn fill(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    // At once, so that a crash leaves no odd length.
    file.set_len(to.max(file.metadata()?.len()))?;
    let zeros = vec![0; usize::try_from(ROOM).expect("it is small")];
    let mut at = from;
    while at < to {
        let bytes = usize::try_from(to - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(&zeros[..bytes], at)?;
        at += bytes as u64;
    }
    file.sync_all()
}

/// Reads all files into an empty machine.
fn restore(
    directory: Arc<Directory>,
    base: u64,
    journals: &[u64],
    machine: &mut Machine,
) -> Result<(Journal, Identity), DataError> {
    let base::Restored { identity, next, size } = base::restore(&directory.base(base), machine)?;
    let (mut identity, mut chain, mut between) = (Some(identity), next, 0);
    let (last, earlier) = journals.split_last().expect("a directory is found with a journal");
    for number in earlier {
        let path = directory.journal(*number);
        let read = read_journal(&path, chain, &mut identity, machine)?;
        if read.unfinished > 0 {
            return Err(damaged(&path, read.offset, Damage::Hole));
        }
        (chain, between) = (read.chain, between + read.length);
    }
    let path = directory.journal(*last);
    let Read { chain, last: last_frame, offset, length, unfinished } =
        read_journal(&path, chain, &mut identity, machine)?;
    let file = Directory::write(&path)?;
    let opened = Opened { number: *last, path, file, chain, offset, length };
    if unfinished > 0 {
        cut(&directory, &opened, unfinished)?;
    }
    opened.write_again(last_frame).map_err(|source| DataError::Write { path: opened.path.clone(), source })?;
    let identity = identity.expect("a base names its cluster");
    directory.begin(identity.cluster_id, opened.number)?;
    directory.tidy(base);
    Ok((Journal::on(directory, identity.cluster_id, opened, (size, between)), identity))
}

/// What a journal says beside what the machine takes from it.
struct Read {
    chain: Chain,
    /// Where the last whole frame begins and ends.
    last: u64,
    offset: u64,
    length: u64,
    /// So many bytes after it are of a write that was not finished.
    unfinished: u64,
}

fn read_journal(
    path: &Path,
    chain: Chain,
    identity: &mut Option<Identity>,
    machine: &mut Machine,
) -> Result<Read, DataError> {
    let read = |source| DataError::Read { path: path.to_owned(), source };
    let mut frames = Frames::of(Directory::read(path)?, chain).map_err(read)?;
    let mut last = 0;
    loop {
        let offset = frames.offset();
        let damaged = |damage| damaged(path, offset, damage);
        let unfinished = match frames.next().map_err(read)? {
            Scan::Frame(content) => {
                for record in decode(content, offset == 0).map_err(damaged)? {
                    record.restore(identity, machine).map_err(damaged)?;
                }
                last = offset;
                continue;
            }
            // It had its first frame before it had its name.
            Scan::End | Scan::Unfinished(_) if offset == 0 => return Err(damaged(Damage::Format)),
            Scan::End => 0,
            Scan::Unfinished(bytes) => bytes,
            Scan::Cut => return Err(damaged(Damage::Short)),
            Scan::Damaged(damage) => return Err(damaged(damage)),
        };
        return Ok(Read { chain: frames.chain(), last, offset, length: frames.length(), unfinished });
    }
}

/// Cuts off a write that was not finished, which was answered to nobody.
fn cut(directory: &Directory, journal: &Opened, bytes: u64) -> Result<(), DataError> {
    let Opened { number, path, file, offset, .. } = journal;
    tracing::warn!(
        path = %path.display(), offset, bytes,
        "a write that was not finished is cut off, and kept beside: it was answered to nobody"
    );
    let mut kept = vec![0; usize::try_from(bytes).expect("a write fits into memory")];
    file.read_exact_at(&mut kept, *offset).map_err(|source| DataError::Read { path: path.clone(), source })?;
    directory.keep_cut(*number, *offset, &kept)?;
    fill(file, *offset, offset + bytes).map_err(|source| DataError::Write { path: path.clone(), source })
}
