//! The journal's bytes as frames, one for each write: length, checksums, content.
//!
//! A checksum goes on from that of the frame before, so that a frame which is missing, or stands elsewhere, is found. The head
//! has a checksum of its own: a length that was damaged is never taken for a write that was not finished.

use crc32fast::Hasher;

use super::error::Damage;

/// The bytes before the content: its length, its checksum, and theirs.
pub(super) const HEAD: usize = 12;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Where in the chain of frames one is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    checksum: u32,
}

/// What is at an offset.
pub(super) enum Scan<'a> {
    /// A whole frame.
    Frame(&'a [u8]),
    /// Nothing.
    End,
    /// A write that was not finished.
    Unfinished,
    /// Something else.
    Damaged(Damage),
}

fn checksum(former: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(former);
    hasher.update(bytes);
    hasher.finalize()
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes were taken"))
}

impl Frames {
    /// Appends the next frame.
    pub(super) fn add(&mut self, content: &[u8], bytes: &mut Vec<u8>) {
        self.checksum = checksum(self.checksum, content);
        let length = u32::try_from(content.len()).expect("a write is smaller than 4 GiB");
        let mut head = [0; 8];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&checksum(0, &head).to_le_bytes());
        bytes.extend_from_slice(content);
    }

    /// Looks at the next frame.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8], offset: usize) -> Scan<'a> {
        let rest = &bytes[offset..];
        if rest.is_empty() {
            return Scan::End;
        }
        let Some((head, content)) = rest.split_at_checked(HEAD) else { return Scan::Unfinished };
        if checksum(0, &head[..8]) != number(&head[8..]) {
            // A file that has grown, and whose new bytes were not written.
            let empty = rest.iter().all(|byte| *byte == 0);
            return if empty { Scan::Unfinished } else { Scan::Damaged(Damage::Head) };
        }
        let length = number(&head[..4]) as usize;
        let Some(frame) = content.get(..length) else { return Scan::Unfinished };
        let own = checksum(self.checksum, frame);
        if own != number(&head[4..8]) {
            let last = length == content.len();
            let unwritten = last && has_unwritten_sector(bytes, offset + HEAD);
            return if unwritten { Scan::Unfinished } else { Scan::Damaged(Damage::Content) };
        }
        self.checksum = own;
        Scan::Frame(frame)
    }
}

/// Is there a part from here on that a disk would have written as a whole, and that is empty?
fn has_unwritten_sector(bytes: &[u8], from: usize) -> bool {
    let first = from.next_multiple_of(SECTOR).min(bytes.len());
    bytes[first..].chunks(SECTOR).any(|sector| sector.iter().all(|byte| *byte == 0))
}
