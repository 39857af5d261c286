//! The data directory: an append-only journal of what requests have changed.
//!
//! Everything is in memory; the journal is what a start reads to have it again, so that a log suffices and no database is
//! needed: one write and one `fdatasync` make all requests durable that came meanwhile. Only the last write can be unfinished
//! after a crash, and nobody was answered for it. All else that does not fit is damage, and is refused with file and offset.
//! Written by the thread of `engine`, which also has it rewritten when most of it says what a compaction has thrown away.

mod directory;
mod error;
mod frame;
mod record;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;
use tokio::time::Instant;

pub use self::error::{Damage, DataError};

use self::directory::Directory;
use self::frame::{Frames, Scan};
use self::record::Record;
use crate::identity::Identity;
use crate::machine::{Effect, Machine};

/// The first bytes of a journal; another number would be another format.
const MAGIC: &[u8; 8] = b"CHETCD\x00\x01";

/// A smaller journal is not worth being rewritten.
const REWRITE_ABOVE: u64 = 16 << 20;

/// About how large one frame of a rewritten journal is.
const FRAME_BYTES: usize = 1 << 20;

/// An open journal, whose directory nobody else has.
#[derive(Debug)]
pub struct Journal {
    directory: Directory,
    path: PathBuf,
    file: File,
    frames: Frames,
    size: u64,
    /// What it had when it was last rewritten.
    rewritten: u64,
}

/// Adds what a request has changed to the bytes of the next write.
pub fn encode(effect: &Effect, bytes: &mut Vec<u8>) {
    Record::of(effect).encode_length_delimited(bytes).expect("a vector grows");
}

impl Journal {
    /// Opens a directory, or makes it, for a cluster of this id where one is given, and returns what it has kept. The leases live their whole time again.
    ///
    /// # Errors
    ///
    /// As [`DataError`] has them: another process has it, or what is in it cannot be read or is damaged.
    pub fn open(path: &Path, cluster_id: Option<u64>) -> Result<(Self, Identity, Machine), DataError> {
        let directory = Directory::lock(path)?;
        let path = directory.journal();
        let mut machine = Machine::default();
        let restored = match directory.read()? {
            None => {
                let identity = Identity::new(cluster_id);
                let mut journal = Self::create(directory, path, &identity, &machine)?;
                journal.rewritten = journal.size;
                return Ok((journal, identity, machine));
            }
            Some(bytes) => restore(&path, &bytes, &mut machine)?,
        };
        let Restored { identity, frames, size, unfinished } = restored;
        if unfinished > 0 {
            tracing::warn!(
                path = %path.display(), offset = size, bytes = unfinished,
                "a write that was not finished is dropped: it was answered to nobody"
            );
        }
        let file = directory.reopen(size)?;
        let mut journal = Self { directory, path, file, frames, size, rewritten: 0 };
        let identity = Identity { raft_term: identity.raft_term + 1, ..identity };
        journal.append_records(&[Record::start(identity.raft_term)])?;
        Ok((journal, identity, machine))
    }

    /// Writes a new one in the place of what is there; a crash leaves either.
    fn create(directory: Directory, path: PathBuf, identity: &Identity, machine: &Machine) -> Result<Self, DataError> {
        let file = directory.create()?;
        let mut journal = Self { directory, path, file, frames: Frames::default(), size: 0, rewritten: 0 };
        journal.fill(identity, machine)?;
        Ok(journal)
    }

    fn fill(&mut self, identity: &Identity, machine: &Machine) -> Result<(), DataError> {
        let mut bytes = MAGIC.to_vec();
        let mut payload = Vec::new();
        for record in Record::all(identity, machine) {
            record.encode_length_delimited(&mut payload).expect("a vector grows");
            if payload.len() > FRAME_BYTES {
                self.frames.add(&payload, &mut bytes);
                payload.clear();
            }
        }
        if !payload.is_empty() {
            self.frames.add(&payload, &mut bytes);
        }
        self.write(&bytes)?;
        self.directory.publish()
    }

    /// Makes what [`encode`] has collected durable.
    ///
    /// # Errors
    ///
    /// The system's. What is durable is not known then, and nothing may be written any more.
    pub fn append(&mut self, records: &[u8]) -> Result<(), DataError> {
        let mut bytes = Vec::with_capacity(records.len() + frame::HEAD);
        self.frames.add(records, &mut bytes);
        self.write(&bytes)
    }

    fn append_records(&mut self, records: &[Record]) -> Result<(), DataError> {
        let mut bytes = Vec::new();
        for record in records {
            record.encode_length_delimited(&mut bytes).expect("a vector grows");
        }
        self.append(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        written.map_err(|source| DataError::Write { path: self.path.clone(), source })?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Is it worth being rewritten after a compaction?
    pub fn is_large(&self) -> bool {
        self.size > REWRITE_ABOVE && self.size > 2 * self.rewritten
    }

    /// Writes what is there now in the place of all that led to it.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    pub fn rewrite(&mut self, identity: &Identity, machine: &Machine) -> Result<(), DataError> {
        self.file = self.directory.create()?;
        (self.frames, self.size) = (Frames::default(), 0);
        self.fill(identity, machine)?;
        self.rewritten = self.size;
        Ok(())
    }
}

/// What a journal says.
struct Restored {
    identity: Identity,
    frames: Frames,
    /// Where the last whole frame ends.
    size: u64,
    /// So many bytes come after it.
    unfinished: u64,
}

fn restore(path: &Path, bytes: &[u8], machine: &mut Machine) -> Result<Restored, DataError> {
    let damaged = |offset: usize, damage| DataError::Damaged { path: path.to_owned(), offset: offset as u64, damage };
    if !bytes.starts_with(MAGIC) {
        return Err(damaged(0, Damage::Format));
    }
    let (mut frames, mut offset, now) = (Frames::default(), MAGIC.len(), Instant::now());
    let mut identity: Option<Identity> = None;
    loop {
        let mut payload = match frames.next(bytes, offset) {
            Scan::End | Scan::Unfinished => break,
            Scan::Damaged(damage) => return Err(damaged(offset, damage)),
            Scan::Frame(payload) => payload,
        };
        let next = offset + frame::HEAD + payload.len();
        while !payload.is_empty() {
            let record = Record::decode_length_delimited(&mut payload);
            let record = record.map_err(|_| damaged(offset, Damage::Record))?;
            record.restore(&mut identity, machine, now).map_err(|damage| damaged(offset, damage))?;
        }
        offset = next;
    }
    let identity = identity.ok_or_else(|| damaged(offset, Damage::Identity))?;
    let unfinished = (bytes.len() - offset) as u64;
    Ok(Restored { identity, frames, size: offset as u64, unfinished })
}
