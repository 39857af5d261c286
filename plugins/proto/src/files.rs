//! Files of vectors: NumPy's `.npy` and `.fvecs`, and the folders that they may be read from.
//!
//! A file is what its content says, not its name: `.npy` begins with a magic string, all else has to be `.fvecs`. Opening
//! and reading block, so callers are on `spawn_blocking`. Nothing here knows collections or segments.

mod blocks;
mod data_dirs;
mod error;
mod fvecs;
mod npy;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub use blocks::Blocks;
pub use data_dirs::DataDirs;
pub use error::{FileError, code_of};

use self::error::{PartError, Wrong};
use crate::batch::MAX_DIMENSION;

/// An open file of vectors, whose header is read and whose size fits it.
#[derive(Debug)]
pub struct VectorFile {
    path: PathBuf,
    file: File,
    header: Header,
    stamp: Stamp,
}

/// What the header of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many vectors there are, at least one.
    pub rows: u64,
    /// How many components each has, at least one.
    pub dimension: u32,
    layout: Layout,
}

/// Where the vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// All after one another from this offset.
    Npy { data: u64 },
    /// Each after its own dimension.
    Fvecs,
}

/// What tells that a file has been written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl VectorFile {
    /// Reads the header of an open regular file. [`DataDirs::open`] is the way to it.
    fn new(path: PathBuf, mut file: File) -> Result<Self, FileError> {
        let header = file.metadata().map_err(PartError::from).and_then(|metadata| {
            let stamp = Stamp::of(&metadata);
            Ok((read_header(&mut file, stamp.size)?, stamp))
        });
        match header {
            Ok((header, stamp)) => Ok(Self { path, file, header, stamp }),
            Err(error) => Err(error.of(path)),
        }
    }

    /// Where it is, with links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its header says.
    pub fn header(&self) -> Header {
        self.header
    }

    /// All its rows.
    pub fn into_blocks(self) -> Blocks {
        Blocks::new(self)
    }
}

fn read_header(file: &mut File, size: u64) -> Result<Header, PartError> {
    if size == 0 {
        return Err(Wrong::new("its size", "more than 0 bytes", "an empty file").into());
    }
    let mut start = [0; npy::MAGIC.len()];
    let is_npy = size >= start.len() as u64 && file.read_exact(&mut start).map(|()| start == npy::MAGIC)?;
    let header = if is_npy {
        npy::read_header(file, size)?
    } else {
        file.seek(SeekFrom::Start(0))?;
        fvecs::read_header(file, size)?
    };
    if header.rows == 0 {
        return Err(Wrong::new("its number of rows", "at least 1", 0).into());
    }
    Ok(header)
}

/// A dimension that is allowed, of whatever width the file gives it.
fn dimension(found: u64) -> Result<u32, Wrong> {
    match u32::try_from(found) {
        Ok(dimension) if (1..=MAX_DIMENSION).contains(&dimension) => Ok(dimension),
        _ => Err(Wrong::new("its dimension", format!("1 to {MAX_DIMENSION}"), found)),
    }
}

#[cfg(test)]
mod tests;
