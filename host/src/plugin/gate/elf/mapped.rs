//! What of a shared object is mapped when it is opened. The rest is for linkers and debuggers: most of a debug build.

use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::{ElfError, Header};

/// What of a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The file's bytes up to here are all that the loader reads.
    pub file_end: u64,
    /// The memory that it takes, open: all its loaded segments, in whole pages.
    pub bytes: u64,
}

/// Where an ELF header tells of the table of sections: `e_shoff`, and `e_shnum` with `e_shstrndx`.
const TELLS_OF_SECTIONS: [std::ops::Range<usize>; 2] = [40..48, 60..64];

impl Mapped {
    /// Of a file that has all its segments.
    pub(super) fn of(header: &Header, bytes: &[u8]) -> Result<Self, ElfError> {
        let endian = header.endian()?;
        let page = rustix::param::page_size() as u64;
        let table = u64::from(header.e_phentsize(endian)) * u64::from(header.e_phnum(endian));
        let mut file_end = header.e_phoff(endian).saturating_add(table).max(size_of::<Header>() as u64);
        let mut mapped: u64 = 0;
        for segment in header.program_headers(endian, bytes)? {
            // Of those that are not loaded, too: the loader reads notes from the file, wherever they are.
            let (offset, length) = segment.file_range(endian);
            file_end = file_end.max(offset.saturating_add(length));
            if segment.p_type(endian) == elf::PT_LOAD {
                let begin = segment.p_vaddr(endian);
                let end = begin.saturating_add(segment.p_memsz(endian)).checked_next_multiple_of(page);
                // What is larger than the address space is refused by the loader.
                mapped = mapped.saturating_add(end.unwrap_or(u64::MAX) - begin / page * page);
            }
        }
        Ok(Self { file_end: file_end.min(bytes.len() as u64), bytes: mapped })
    }

    /// Leaves of these bytes what is mapped, and nothing in the header that tells of more.
    ///
    /// # Panics
    ///
    /// If they are not those that this is of.
    pub fn keep(self, bytes: &mut Vec<u8>) {
        bytes.truncate(usize::try_from(self.file_end).unwrap_or(usize::MAX));
        for field in TELLS_OF_SECTIONS {
            bytes[field].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these segments: type, offset, size in the file, address, size in memory.
    fn file(segments: &[(u32, u64, u64, u64, u64)], size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, if cfg!(target_endian = "big") { 2 } else { 1 }, 1]);
        bytes[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        bytes[56..58].copy_from_slice(&(segments.len() as u16).to_ne_bytes());
        for (index, (kind, offset, in_file, address, in_memory)) in segments.iter().enumerate() {
            let header = &mut bytes[64 + index * 56..];
            header[..4].copy_from_slice(&kind.to_ne_bytes());
            for (at, value) in [(8, offset), (16, address), (32, in_file), (40, in_memory)] {
                header[at..at + 8].copy_from_slice(&value.to_ne_bytes());
            }
        }
        bytes
    }

    fn mapped(segments: &[(u32, u64, u64, u64, u64)]) -> Mapped {
        let bytes = file(segments, 100_000);
        Mapped::of(Header::parse(bytes.as_slice()).expect("a header"), &bytes).expect("segments")
    }

    #[test]
    fn memory_is_counted_in_whole_pages_and_the_file_to_its_last_segment() {
        let page = rustix::param::page_size() as u64;
        let (load, note) = (elf::PT_LOAD.0, elf::PT_NOTE.0);
        // From the last byte of one page to the first of another.
        let both = [(load, 0, 5000, 0, 5000), (load, 6000, 100, 8 * page - 1, 2)];
        let first = 5000_u64.next_multiple_of(page);
        assert_eq!(mapped(&both), Mapped { file_end: 6100, bytes: first + 2 * page });
        let bss = [(load, 0, 10, 0, 10 * page + 1)];
        assert_eq!(mapped(&bss), Mapped { file_end: 64 + 56, bytes: 11 * page }, "the header's table is read as well");
        let outside = [(load, 0, 5000, 0, 5000), (note, 7000, 36, 0, 0)];
        assert_eq!(mapped(&outside).file_end, 7036);
        assert_eq!(mapped(&[(load, 0, 1, 0, u64::MAX); 2]).bytes, u64::MAX, "more than there can be is no overflow");
    }

    #[test]
    fn what_is_kept_tells_of_no_sections() {
        let mut bytes = file(&[(elf::PT_LOAD.0, 0, 200, 0, 200)], 1000);
        bytes[40..64].fill(7);
        let before = bytes.clone();
        Mapped { file_end: 200, bytes: 0 }.keep(&mut bytes);
        assert_eq!(bytes.len(), 200);
        assert_eq!((&bytes[40..48], &bytes[60..64]), (&[0; 8][..], &[0; 4][..]));
        assert_eq!((&bytes[..40], &bytes[48..60], &bytes[64..]), (&before[..40], &before[48..60], &before[64..200]));
    }
}
