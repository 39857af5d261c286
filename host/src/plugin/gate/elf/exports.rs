//! Which symbols a shared object exports, as the loader finds them: by its dynamic segment.
//!
//! The table of sections, which tells the same, is for linkers and debuggers; a private copy has none.

use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, GnuHashTable, HashTable, ProgramHeader as _, Sym as _};
use object::read::{ReadRef as _, StringTable};

use super::{ElfError, Header};

/// All dynamic symbols that are defined here and can be seen from outside; sorted.
pub(super) fn exported(header: &Header, bytes: &[u8]) -> Result<Vec<String>, ElfError> {
    let endian = header.endian()?;
    let file = Loadable { header, bytes, endian };
    let Some(dynamic) = Dynamic::of(&file)? else { return Ok(Vec::new()) };
    let names = file.behind(dynamic.names, "its table of names is in no segment")?;
    let names = StringTable::new(names, 0, names.len() as u64);
    let symbols = file.behind(dynamic.symbols, "its table of symbols is in no segment")?;
    let symbols: &[elf::Sym64<object::Endianness>] = symbols
        .read_slice_at(0, dynamic.length)
        .map_err(|()| ElfError::Dynamic("its table of symbols does not end in its segment"))?;
    let mut exported = Vec::new();
    for symbol in symbols.iter().filter(|symbol| {
        !symbol.is_undefined(endian) && !symbol.is_local() && symbol.st_visibility() == elf::STV_DEFAULT
    }) {
        let name = names.get(symbol.st_name(endian)).map_err(|()| ElfError::Dynamic("a symbol has no name"))?;
        exported.push(String::from_utf8_lossy(name).into_owned());
    }
    exported.sort_unstable();
    // A symbol may be there in several versions.
    exported.dedup();
    Ok(exported)
}

/// A file by the addresses that it is mapped at.
struct Loadable<'a> {
    header: &'a Header,
    bytes: &'a [u8],
    endian: object::Endianness,
}

impl<'a> Loadable<'a> {
    /// What the file has from this address to the end of its segment.
    fn behind(&self, address: u64, nowhere: &'static str) -> Result<&'a [u8], ElfError> {
        let segments = self.header.program_headers(self.endian, self.bytes)?;
        let loaded = segments.iter().filter(|segment| segment.p_type(self.endian) == elf::PT_LOAD);
        let found = loaded.filter_map(|segment| {
            let data = segment.data(self.endian, self.bytes).ok()?;
            data.get(usize::try_from(address.checked_sub(segment.p_vaddr(self.endian))?).ok()?..)
        });
        let mut found = found.filter(|data| !data.is_empty());
        found.next().ok_or(ElfError::Dynamic(nowhere))
    }
}

/// What the dynamic segment says of the symbols: addresses, and how many there are.
struct Dynamic {
    names: u64,
    symbols: u64,
    length: usize,
}

impl Dynamic {
    /// `None` where there is no such segment, or it has no symbols.
    fn of(file: &Loadable<'_>) -> Result<Option<Self>, ElfError> {
        let mut entries = None;
        for segment in file.header.program_headers(file.endian, file.bytes)? {
            if let Some(found) = segment.dynamic(file.endian, file.bytes)? {
                entries = Some(found);
            }
        }
        let value = |tag| {
            let found = entries?.iter().find(|entry| entry.d_tag(file.endian) == tag);
            found.map(|entry| entry.d_val(file.endian))
        };
        let (Some(names), Some(symbols)) = (value(elf::DT_STRTAB), value(elf::DT_SYMTAB)) else { return Ok(None) };
        // The loader finds a symbol by one of these, and nothing else tells how many there are.
        let length = if let Some(address) = value(elf::DT_GNU_HASH) {
            let table = file.behind(address, "its table of hashes is in no segment")?;
            GnuHashTable::<Header>::parse(file.endian, table)?.symbol_table_length(file.endian).unwrap_or(0)
        } else if let Some(address) = value(elf::DT_HASH) {
            let table = file.behind(address, "its table of hashes is in no segment")?;
            HashTable::<Header>::parse(file.endian, table)?.symbol_table_length()
        } else {
            return Err(ElfError::Dynamic("it has no table of hashes, by which symbols are found"));
        };
        Ok((length > 0).then_some(Self { names, symbols, length: length as usize }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The C library that this test runs with: a shared object that was not made for it.
    fn libc() -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("the list of what is mapped");
        let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        std::fs::read(path.expect("a C library")).expect("it can be read")
    }

    #[test]
    fn the_loader_finds_what_the_table_of_sections_shows() {
        let bytes = libc();
        let header = Header::parse(bytes.as_slice()).expect("a header");
        let endian = header.endian().expect("of this machine");
        let sections = header.sections(endian, bytes.as_slice()).expect("sections");
        let symbols = sections.symbols(endian, bytes.as_slice(), elf::SHT_DYNSYM).expect("symbols");
        let expected: BTreeSet<String> = symbols
            .iter()
            .filter(|symbol| !symbol.is_undefined(endian) && !symbol.is_local())
            .filter(|symbol| symbol.st_visibility() == elf::STV_DEFAULT)
            .map(|symbol| String::from_utf8_lossy(symbols.symbol_name(endian, symbol).expect("a name")).into_owned())
            .collect();
        assert!(expected.contains("malloc") && expected.len() > 1000, "{}", expected.len());
        assert_eq!(exported(header, &bytes).expect("symbols"), expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_table_that_leads_out_of_the_file_is_damaged() {
        let whole = libc();
        let header = Header::parse(whole.as_slice()).expect("a header");
        let endian = header.endian().expect("of this machine");
        let segments = header.program_headers(endian, whole.as_slice()).expect("segments");
        let dynamic =
            segments.iter().find(|segment| segment.p_type(endian) == elf::PT_DYNAMIC).expect("a dynamic segment");
        let (begin, _) = dynamic.file_range(endian);
        let entries = dynamic.dynamic(endian, whole.as_slice()).expect("entries").expect("they are there");
        for tag in [elf::DT_STRTAB, elf::DT_SYMTAB, elf::DT_GNU_HASH] {
            let index = entries.iter().position(|entry| entry.d_tag(endian) == tag).expect("it is there");
            let mut bytes = whole.clone();
            let at = begin as usize + index * size_of::<elf::Dyn64<object::Endianness>>() + 8;
            bytes[at..at + 8].copy_from_slice(&(u64::MAX - 7).to_ne_bytes());
            let header = Header::parse(bytes.as_slice()).expect("a header");
            assert!(matches!(exported(header, &bytes), Err(ElfError::Dynamic(_))), "{tag:?}");
        }
    }
}
