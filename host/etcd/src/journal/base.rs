//! What a later start begins with, in place of all that led to it: collected in a moment, written at leisure.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::Directory;
use super::error::{Damage, DataError};
use super::frame::{Chain, Frames, Scan};
use super::record::{Record, decode};
use super::{MAGIC, damaged};
use crate::identity::Identity;
use crate::machine::{Effect, Machine};
use crate::store::{Entry, Version};

/// About how large one frame is.
const FRAME_BYTES: usize = 1 << 20;

/// After so many bytes they are made durable: other writes wait no longer for the disk, nor does a stop.
const SYNC_BYTES: u64 = 8 << 20;

/// Everything at one moment. Values are shared with the store, not copied.
pub struct Image {
    identity: Identity,
    /// Ids and times to live.
    leases: Vec<(i64, i64)>,
    /// Versions of before the first of `entries`.
    older: Vec<Version>,
    entries: Vec<Arc<Entry>>,
    compaction: i64,
}

impl Image {
    /// All that was decided so far.
    pub fn of(identity: &Identity, machine: &Machine) -> Self {
        let (store, lessor) = (machine.store(), machine.lessor());
        Self {
            identity: identity.clone(),
            leases: lessor.ids().filter_map(|id| Some((id, lessor.get(id)?.ttl))).collect(),
            older: store.older().cloned().collect(),
            entries: store.entries(0).cloned().collect(),
            compaction: machine.compaction(),
        }
    }

    /// Leases come first, so that keys find them.
    fn records(self, next: Chain) -> impl Iterator<Item = Record> {
        let Self { identity, leases, older, entries, compaction } = self;
        let effect = |effect: Effect| Record::of(&effect);
        std::iter::once(Record::head(&identity, next.0))
            .chain(leases.into_iter().map(move |(id, ttl)| effect(Effect::Grant { id, ttl })))
            .chain(older.into_iter().map(|version| Record::older(&version)))
            .chain(entries.into_iter().map(move |entry| effect(Effect::Changes(entry))))
            .chain([effect(Effect::Compaction(compaction)), Record::end()])
    }

    /// Writes it as the base before the journal that begins with this chain, unless it is told to stop. Returns its size. What
    /// was not finished takes no room.
    pub(super) fn write(
        self,
        directory: &Directory,
        number: u64,
        next: Chain,
        stop: &AtomicBool,
    ) -> Result<Option<u64>, DataError> {
        let written = self.try_write(directory, number, next, stop);
        if !matches!(written, Ok(Some(_))) {
            // Else the next start does it.
            let _ = directory.forget(&directory.base(number));
        }
        written
    }

    fn try_write(
        self,
        directory: &Directory,
        number: u64,
        next: Chain,
        stop: &AtomicBool,
    ) -> Result<Option<u64>, DataError> {
        let path = directory.base(number);
        let failed = |source| DataError::Write { path: path.clone(), source };
        let mut file = directory.create(&path)?;
        let (mut chain, mut bytes, mut payload, mut size, mut synced) =
            (Chain::default(), Vec::new(), MAGIC.to_vec(), 0, 0);
        let mut records = self.records(next).peekable();
        while let Some(record) = records.next() {
            record.encode_to(&mut payload);
            if payload.len() < FRAME_BYTES && records.peek().is_some() {
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            chain.add(&payload, &mut bytes);
            file.write_all(&bytes).map_err(failed)?;
            size += bytes.len() as u64;
            payload.clear();
            bytes.clear();
            if size - synced > SYNC_BYTES {
                file.sync_data().map_err(failed)?;
                synced = size;
            }
        }
        file.sync_all().map_err(failed)?;
        directory.publish(&path)?;
        Ok(Some(size))
    }
}

/// What a base says beside what the machine takes from it.
pub(super) struct Restored {
    pub identity: Identity,
    /// With what the journal after it begins.
    pub next: Chain,
    pub size: u64,
}

/// Reads a base, which is whole or damaged.
pub(super) fn restore(path: &Path, machine: &mut Machine) -> Result<Restored, DataError> {
    let read = |source| DataError::Read { path: path.to_owned(), source };
    let mut frames = Frames::of(Directory::read(path)?, Chain::default()).map_err(read)?;
    let (mut identity, mut next, mut ended) = (None, None, false);
    loop {
        let offset = frames.offset();
        let damaged = |damage| damaged(path, offset, damage);
        match frames.next().map_err(read)? {
            Scan::Frame(content) if !ended => {
                for record in decode(content, offset == 0).map_err(damaged)? {
                    next = next.or(record.leads_to());
                    ended |= record.is_end();
                    record.restore(&mut identity, machine).map_err(damaged)?;
                }
            }
            Scan::Cut if ended => break,
            Scan::Damaged(damage) => return Err(damaged(damage)),
            Scan::Frame(_) | Scan::Cut | Scan::End | Scan::Unfinished(_) => return Err(damaged(Damage::Short)),
        }
    }
    let incomplete = || damaged(path, 0, Damage::Identity);
    let identity = identity.ok_or_else(incomplete)?;
    Ok(Restored { identity, next: Chain(next.ok_or_else(incomplete)?), size: frames.offset() })
}
