//! `.fvecs`: each vector after its own dimension, an int32; all little-endian (<http://corpus-texmex.irisa.fr>).

use std::io::Read;

use super::error::{PartError, Wrong};
use super::{Header, Layout, dimension};

/// The header that the first row and the file's size make.
pub(super) fn read_header(file: &mut impl Read, size: u64) -> Result<Header, PartError> {
    if size < 4 {
        let found = format!("neither, with {size} bytes");
        return Err(Wrong::new("its content", "a .npy or .fvecs file", found).into());
    }
    let dimension = dimension(u64::from(read_dimension(file)?))?;
    let row = 4 + u64::from(dimension) * 4;
    if !size.is_multiple_of(row) {
        let expected = format!("a multiple of {row} bytes (an int32 and {dimension} float32 for each row of .fvecs)");
        return Err(Wrong::new("its size", expected, size).into());
    }
    Ok(Header { rows: size / row, dimension, layout: Layout::Fvecs })
}

/// Reads the dimension before a row, which has to be that of the first.
pub(super) fn check_dimension(mut file: &[u8], row: u64, expected: u32) -> Result<(), PartError> {
    match read_dimension(&mut file)? {
        found if found == expected => Ok(()),
        found => Err(Wrong::new(format!("the dimension of row {row}"), expected, found).into()),
    }
}

/// As an unsigned number, so that a negative one is refused as too large.
fn read_dimension(file: &mut impl Read) -> Result<u32, PartError> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
