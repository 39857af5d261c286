//! A file's bytes as frames, one for each write: length, checksums, content.
//!
//! A frame has sectors of its own, and each sector begins with a mark that is not zero. So a sector that was written is never
//! empty, and one that is empty was not written: that tells a write that a crash has interrupted from damage. A checksum goes
//! on from that of the frame before, so that a frame which is missing, or stands elsewhere, is found. The head has a checksum
//! of its own: a length that was damaged is never taken for another.

use std::fs::File;
use std::io::{self, BufReader, Read};

use crc32fast::Hasher;

use super::error::Damage;

/// What a disk writes as a whole.
pub(super) const SECTOR: usize = 512;

/// The bytes of a frame's first sector before its content: mark, length, checksum, and theirs.
const HEAD: usize = 13;

/// The mark of a frame's first sector.
const FIRST: u8 = 1;
/// The mark of its other sectors.
const MORE: u8 = 2;

/// How many bytes are read from a file at a time.
const READ_BYTES: usize = 1 << 20;

/// Where in the chain of frames one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain(pub u32);

impl Chain {
    /// Appends the next frame to whole sectors.
    pub(super) fn add(&mut self, content: &[u8], bytes: &mut Vec<u8>) {
        let begin = bytes.len();
        let (first, more) = content.split_at(content.len().min(SECTOR - HEAD));
        bytes.resize(begin + HEAD, 0);
        bytes.extend_from_slice(first);
        for part in more.chunks(SECTOR - 1) {
            bytes.push(MORE);
            bytes.extend_from_slice(part);
        }
        bytes.resize(begin + (bytes.len() - begin).next_multiple_of(SECTOR), 0);
        let (head, body) = bytes[begin..].split_at_mut(HEAD);
        self.0 = checksum(self.0, body);
        let length = u32::try_from(content.len()).expect("a write is smaller than 4 GiB");
        head[0] = FIRST;
        head[1..5].copy_from_slice(&length.to_le_bytes());
        head[5..9].copy_from_slice(&self.0.to_le_bytes());
        let own = checksum(0, &head[..9]);
        head[9..].copy_from_slice(&own.to_le_bytes());
    }
}

fn checksum(former: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(former);
    hasher.update(bytes);
    hasher.finalize()
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes were taken"))
}

fn is_empty(sector: &[u8]) -> bool {
    sector.iter().all(|byte| *byte == 0)
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A whole frame's content.
    Frame(Vec<u8>),
    /// Empty sectors up to the file's end, at least one.
    End,
    /// The file's end itself.
    Cut,
    /// A write that was not finished, of so many bytes; after it there is nothing.
    Unfinished(u64),
    /// Something else.
    Damaged(Damage),
}

/// Reads a file frame by frame.
pub(super) struct Frames {
    file: BufReader<File>,
    chain: Chain,
    offset: u64,
    length: u64,
}

impl Frames {
    /// Begins with a file's first frame, which follows on this chain.
    pub(super) fn of(file: File, chain: Chain) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: BufReader::with_capacity(READ_BYTES, file), chain, offset: 0, length })
    }

    /// Where the next frame begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The file's length.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The chain up to there.
    pub(super) fn chain(&self) -> Chain {
        self.chain
    }

    /// Looks at the next frame; after anything but a frame there is none.
    pub(super) fn next(&mut self) -> io::Result<Scan> {
        let left = self.length - self.offset;
        if left == 0 {
            return Ok(Scan::Cut);
        }
        if left < SECTOR as u64 {
            return Ok(Scan::Damaged(Damage::Short));
        }
        let mut sectors = vec![0; SECTOR];
        self.file.read_exact(&mut sectors)?;
        if is_empty(&sectors) {
            return self.tail(SECTOR as u64);
        }
        let head = &sectors[..HEAD];
        if head[0] != FIRST || checksum(0, &head[..9]) != number(&head[9..]) {
            return Ok(Scan::Damaged(Damage::Head));
        }
        let (length, wanted) = (number(&head[1..5]) as usize, number(&head[5..9]));
        let more = length.saturating_sub(SECTOR - HEAD).div_ceil(SECTOR - 1);
        let whole = (1 + more) * SECTOR;
        if whole as u64 > left {
            return Ok(Scan::Damaged(Damage::Short));
        }
        sectors.resize(whole, 0);
        self.file.read_exact(&mut sectors[SECTOR..])?;
        if sectors.chunks(SECTOR).any(is_empty) {
            return self.tail(whole as u64);
        }
        if checksum(self.chain.0, &sectors[HEAD..]) != wanted {
            return Ok(Scan::Damaged(Damage::Content));
        }
        self.chain = Chain(wanted);
        self.offset += whole as u64;
        Ok(Scan::Frame(content(&sectors, length)))
    }

    /// A sector is empty, and so many bytes were read: only an unfinished write's other sectors may come, and no other frame.
    fn tail(&mut self, read: u64) -> io::Result<Scan> {
        // A first sector that was read was the frame's own.
        let mut written = if read > SECTOR as u64 { read } else { 0 };
        let mut at = read;
        let mut sector = [0; SECTOR];
        while at < self.length - self.offset {
            if self.length - self.offset - at < SECTOR as u64 {
                return Ok(Scan::Damaged(Damage::Short));
            }
            self.file.read_exact(&mut sector)?;
            at += SECTOR as u64;
            if sector[0] == FIRST {
                return Ok(Scan::Damaged(Damage::Hole));
            }
            if !is_empty(&sector) {
                written = at;
            }
        }
        Ok(if written == 0 { Scan::End } else { Scan::Unfinished(written) })
    }
}

fn content(sectors: &[u8], length: usize) -> Vec<u8> {
    let (first, more) = sectors.split_at(SECTOR);
    let mut content = Vec::with_capacity(sectors.len());
    content.extend_from_slice(&first[HEAD..]);
    more.chunks(SECTOR).for_each(|sector| content.extend_from_slice(&sector[1..]));
    content.truncate(length);
    content
}
