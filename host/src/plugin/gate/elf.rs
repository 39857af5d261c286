//! What can be read off a file's bytes: is it a whole shared object of this machine, which plugin does it export, and how
//! much of it is mapped?
//!
//! No I/O, and nothing is opened. The loader would say "No such file" for another machine's object, and end this process
//! with SIGBUS for a truncated one.

mod exports;
mod machine;
mod mapped;

use object::elf;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use plugin_api::border::root::ENTRY_PREFIX;

pub use self::machine::Difference;
pub use self::mapped::Mapped;

/// Hosts are 64-bit processes.
type Header = elf::FileHeader64<object::Endianness>;

/// A file that cannot be a plugin of this machine.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Some other kind of file.
    #[error("it is not an ELF file: expected it to begin with 7f 45 4c 46, found {found}")]
    NotElf {
        /// Its first bytes, in hexadecimal.
        found: String,
    },
    /// An ELF file of another kind of machine.
    #[error("it is not for this machine: {}; build it for {}", machine::list(.0), std::env::consts::ARCH)]
    OtherMachine(Vec<Difference>),
    /// An ELF file, but no shared object.
    #[error(
        "expected a shared object, found {found}: a plugin is a crate whose manifest has crate-type = [\"cdylib\", \"rlib\"]"
    )]
    OtherKind {
        /// What it is.
        found: String,
    },
    /// The file ends too early, as after a copy that was interrupted.
    #[error("it is truncated: {part} ends at byte {end}, the file has {size}; copy or build it again")]
    Truncated {
        /// What reaches past the end.
        part: String,
        /// Where that ends.
        end: u64,
        /// The file's size.
        size: u64,
    },
    /// The bytes contradict one another.
    #[error("its ELF structure is damaged; copy or build it again")]
    Damaged(#[from] object::read::Error),
    /// What the loader would look for is not there.
    #[error("its ELF structure is damaged: {0}; copy or build it again")]
    Dynamic(&'static str),
    /// A shared object, but no plugin.
    #[error(
        "it exports no symbol that begins with {ENTRY_PREFIX}, so it is not a plugin: the crate's export macro makes one"
    )]
    NoEntry,
    /// Several plugins in one file.
    #[error(
        "it exports more than one plugin ({}): a file holds one; a plugin crate that another depends on is linked into it",
        .0.join(", ")
    )]
    ManyEntries(Vec<String>),
}

impl ElfError {
    /// May it be that the rest is only not written yet?
    pub fn is_of_a_part(&self) -> bool {
        matches!(self, Self::NotElf { .. } | Self::Truncated { .. } | Self::Damaged(_) | Self::Dynamic(_))
    }
}

/// What the bytes of a plugin say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its one entry symbol.
    pub entry_symbol: String,
    /// All symbols that it exports, that one among them; sorted.
    pub exported: Vec<String>,
    /// What of it is mapped.
    pub mapped: Mapped,
}

/// What is in the plugin that these bytes are.
///
/// # Errors
///
/// [`ElfError`], in the order of its variants: a file of another machine is not also said to have no entry.
pub fn read(bytes: &[u8]) -> Result<Contents, ElfError> {
    machine::check(bytes)?;
    check_whole(bytes)?;
    let header = Header::parse(bytes)?;
    check_kind(header, bytes)?;
    let exported = exports::exported(header, bytes)?;
    let mut entries = exported.iter().filter(|name| name.starts_with(ENTRY_PREFIX));
    let entry_symbol = match (entries.next(), entries.next()) {
        (Some(only), None) => only.clone(),
        (None, _) => return Err(ElfError::NoEntry),
        (Some(first), Some(second)) => {
            let rest = [first, second].into_iter().chain(entries);
            return Err(ElfError::ManyEntries(rest.cloned().collect()));
        }
    };
    let mapped = Mapped::of(header, bytes)?;
    Ok(Contents { entry_symbol, exported, mapped })
}

fn check_whole(bytes: &[u8]) -> Result<(), ElfError> {
    let size = bytes.len() as u64;
    let whole = |part: String, offset: u64, length: u64| match offset.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        end => Err(ElfError::Truncated { part, end: end.unwrap_or(u64::MAX), size }),
    };
    whole("the ELF header".to_owned(), 0, size_of::<Header>() as u64)?;
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let length = u64::from(header.e_phentsize(endian)) * u64::from(header.e_phnum(endian));
    whole("the table of segments".to_owned(), header.e_phoff(endian), length)?;
    for (index, segment) in header.program_headers(endian, bytes)?.iter().enumerate() {
        let (offset, length) = segment.file_range(endian);
        whole(format!("segment {index}"), offset, length)?;
    }
    // The loader does not need it, but it is the last thing in a file: without it the file is not what was built.
    let length = u64::from(header.e_shentsize(endian)) * u64::from(header.e_shnum(endian));
    whole("the table of sections".to_owned(), header.e_shoff(endian), length)
}

fn check_kind(header: &Header, bytes: &[u8]) -> Result<(), ElfError> {
    let endian = header.endian()?;
    let found = match header.e_type(endian) {
        elf::ET_DYN if is_position_independent_executable(header, bytes)? => "a position-independent executable",
        elf::ET_DYN => return Ok(()),
        elf::ET_EXEC => "an executable",
        elf::ET_REL => "an object file that is not linked",
        elf::ET_CORE => "a core dump",
        other => return Err(ElfError::OtherKind { found: format!("type {}", other.0) }),
    };
    Err(ElfError::OtherKind { found: found.to_owned() })
}

/// Such an executable has a shared object's type, and the loader refuses it by this flag as well.
fn is_position_independent_executable(header: &Header, bytes: &[u8]) -> Result<bool, ElfError> {
    let endian = header.endian()?;
    for segment in header.program_headers(endian, bytes)? {
        for entry in segment.dynamic(endian, bytes)?.into_iter().flatten() {
            if entry.d_tag(endian) == elf::DT_FLAGS_1 && entry.d_val(endian) & elf::DF_1_PIE.0 != 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::machine::{E_IDENT_CLASS, E_IDENT_DATA, E_MACHINE, own_machine};
    use super::*;

    /// The first 64 bytes of an ELF file of this machine, without segments and sections.
    fn header() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        bytes[16] = 3;
        bytes[E_MACHINE..E_MACHINE + 2].copy_from_slice(&own_machine().expect("a known machine").to_le_bytes());
        bytes[20] = 1;
        bytes
    }

    fn text(bytes: &[u8]) -> String {
        read(bytes).expect_err("no plugin").to_string()
    }

    #[test]
    fn another_kind_of_file_is_named_by_its_first_bytes() {
        assert!(text(b"#!/bin/sh\n").contains("found 23 21 2f 62"));
        assert!(text(b"").contains("an empty file"));
    }

    #[test]
    fn every_field_of_another_machine_is_named() {
        let mut bytes = header();
        bytes[E_IDENT_CLASS] = 1;
        bytes[E_IDENT_DATA] = 2;
        bytes[E_MACHINE..E_MACHINE + 2].copy_from_slice(&elf::EM_S390.0.to_be_bytes());
        let text = text(&bytes);
        for part in ["found 32-bit", "found big-endian", "found s390x", std::env::consts::ARCH] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_file_that_ends_early_is_truncated_wherever_it_ends() {
        let whole = header();
        for length in 4..whole.len() {
            assert!(text(&whole[..length]).contains("truncated"), "{length} bytes");
        }
    }

    #[test]
    fn an_offset_that_overflows_is_truncated_too() {
        let mut bytes = header();
        bytes[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        bytes[54] = 56;
        bytes[56] = 1;
        assert!(text(&bytes).contains("the table of segments"));
    }

    #[test]
    fn other_kinds_of_elf_files_are_named() {
        for (kind, name) in [(1, "not linked"), (2, "an executable"), (4, "a core dump"), (9, "type 9")] {
            let mut bytes = header();
            bytes[16] = kind;
            assert!(text(&bytes).contains(name));
        }
    }
}
