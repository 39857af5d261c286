//! Whether the first bytes of a file are those of an ELF file of this machine.

use std::fmt;

use object::elf;

use super::ElfError;

/// A field of the header that has another value than this machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field.
    pub field: &'static str,
    /// This machine's value.
    pub expected: String,
    /// The file's.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: expected {}, found {}", self.field, self.expected, self.found)
    }
}

/// The identification, the type and the machine are at the same offsets in every ELF file, so they are read before the
/// rest, whose layout depends on them.
pub(super) const E_IDENT_CLASS: usize = 4;
pub(super) const E_IDENT_DATA: usize = 5;
pub(super) const E_MACHINE: usize = 18;
const HEADER_START: usize = 20;

/// That the file is an ELF file of this machine.
pub(super) fn check(bytes: &[u8]) -> Result<(), ElfError> {
    if !bytes.starts_with(&elf::ELFMAG) {
        let found = match bytes {
            [] => "an empty file".to_owned(),
            _ => bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
        };
        return Err(ElfError::NotElf { found });
    }
    let size = bytes.len() as u64;
    let Some(start) = bytes.get(..HEADER_START) else {
        return Err(ElfError::Truncated { part: "the ELF header".to_owned(), end: HEADER_START as u64, size });
    };
    let (class, order) = (start[E_IDENT_CLASS], start[E_IDENT_DATA]);
    let machine = [start[E_MACHINE], start[E_MACHINE + 1]];
    let machine = if order == elf::ELFDATA2MSB.0 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    let own_order = if cfg!(target_endian = "big") { elf::ELFDATA2MSB.0 } else { elf::ELFDATA2LSB.0 };
    let differences: Vec<_> = [
        difference("class", elf::ELFCLASS64.0, class, |class| match class {
            1 => "32-bit".to_owned(),
            2 => "64-bit".to_owned(),
            other => format!("class {other}"),
        }),
        difference("byte order", own_order, order, |order| match order {
            1 => "little-endian".to_owned(),
            2 => "big-endian".to_owned(),
            other => format!("order {other}"),
        }),
        difference("machine", own_machine().unwrap_or(machine), machine, machine_name),
    ]
    .into_iter()
    .flatten()
    .collect();
    if differences.is_empty() { Ok(()) } else { Err(ElfError::OtherMachine(differences)) }
}

fn difference<T: PartialEq>(field: &'static str, expected: T, found: T, name: fn(T) -> String) -> Option<Difference> {
    (expected != found).then(|| Difference { field, expected: name(expected), found: name(found) })
}

/// By Rust's name of an architecture, so that a message says what `--target` would.
const MACHINES: [(&str, elf::Machine); 8] = [
    ("x86_64", elf::EM_X86_64),
    ("aarch64", elf::EM_AARCH64),
    ("riscv64", elf::EM_RISCV),
    ("x86", elf::EM_386),
    ("arm", elf::EM_ARM),
    ("powerpc64", elf::EM_PPC64),
    ("s390x", elf::EM_S390),
    ("loongarch64", elf::EM_LOONGARCH),
];

pub(super) fn own_machine() -> Option<u16> {
    MACHINES.iter().find(|(name, _)| *name == std::env::consts::ARCH).map(|(_, machine)| machine.0)
}

fn machine_name(machine: u16) -> String {
    let known = MACHINES.iter().find(|(_, known)| known.0 == machine);
    known.map_or_else(|| format!("machine {machine}"), |(name, _)| (*name).to_owned())
}

pub(super) fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join("; ")
}
