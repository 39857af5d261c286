//! NumPy's `.npy`, versions 1 to 3, as `numpy.lib.format` describes it: a magic string, the version, the length of the
//! header, a Python dictionary with `descr`, `fortran_order` and `shape`, then the data.

use std::io::{self, Read};

use super::error::{PartError, Wrong};
use super::{Header, Layout, dimension};

/// What the file begins with.
pub(super) const MAGIC: [u8; 6] = *b"\x93NUMPY";

/// A header longer than this is no header of an array of numbers; it is not read into memory.
const MAX_HEADER_BYTES: u64 = 65_536;

/// The header, from right after the magic string.
pub(super) fn read_header(file: &mut impl Read, size: u64) -> Result<Header, PartError> {
    let (text, data) = read_text(file)?;
    let descr = value_of(&text, "descr");
    if descr != Some("'<f4'") {
        return Err(wrong_value("descr", "'<f4' (float32, little-endian)", descr).into());
    }
    let order = value_of(&text, "fortran_order");
    if order != Some("False") {
        return Err(wrong_value("fortran_order", "False (C order)", order).into());
    }
    let shape = value_of(&text, "shape");
    let Some((rows, columns)) = shape.and_then(two_numbers) else {
        return Err(wrong_value("shape", "(rows, dimension), two numbers", shape).into());
    };
    let dimension = dimension(columns)?;
    // 128 bits, as the header may claim any number of rows.
    let expected = u128::from(data) + u128::from(rows) * u128::from(dimension) * 4;
    if expected != u128::from(size) {
        let expected = format!("{expected} bytes ({rows} rows of {dimension} float32)");
        return Err(Wrong::new("its size", expected, size).into());
    }
    Ok(Header { rows, dimension, layout: Layout::Npy { data } })
}

/// The dictionary, and where the data begins.
fn read_text(file: &mut impl Read) -> Result<(String, u64), PartError> {
    let [major, _minor] = read_array(file)?;
    let (length, before) = match major {
        1 => (u64::from(u16::from_le_bytes(read_array(file)?)), 10),
        2 | 3 => (u64::from(u32::from_le_bytes(read_array(file)?)), 12),
        other => return Err(Wrong::new("its .npy format version", "1, 2 or 3", other).into()),
    };
    if length > MAX_HEADER_BYTES {
        return Err(Wrong::new("its header's length", format!("at most {MAX_HEADER_BYTES} bytes"), length).into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map_err(ends_early)?;
    // Version 1 is latin-1; what is looked for is ASCII, and anything else is shown to people only.
    Ok((String::from_utf8_lossy(&bytes).into_owned(), before + length))
}

fn read_array<const N: usize>(file: &mut impl Read) -> Result<[u8; N], PartError> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(ends_early)?;
    Ok(bytes)
}

fn ends_early(error: io::Error) -> PartError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Wrong::new("its header", "whole", "the end of the file").into(),
        _ => error.into(),
    }
}

/// The text of a key's value in the dictionary: up to the comma or the brace that ends it, brackets counted.
fn value_of<'text>(dictionary: &'text str, key: &str) -> Option<&'text str> {
    let quoted = format!("'{key}'");
    let after = dictionary.split_once(&quoted)?.1.trim_start().strip_prefix(':')?.trim_start();
    let mut depth = 0_u32;
    for (at, character) in after.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            ',' | '}' if depth == 0 => return Some(after[..at].trim_end()),
            _ => {}
        }
    }
    None
}

fn two_numbers(tuple: &str) -> Option<(u64, u64)> {
    let (rows, columns) = tuple.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let columns = columns.trim().trim_end_matches(',');
    Some((rows.trim().parse().ok()?, columns.trim().parse().ok()?))
}

fn wrong_value(key: &str, expected: &str, found: Option<&str>) -> Wrong {
    Wrong::new(format!("its header's {key}"), expected, found.unwrap_or("nothing"))
}
