//! The rows of a file, a block at a time: whoever reads decides where they go, and when to stop.

use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::error::PartError;
use super::{FileError, Header, Layout, Stamp, VectorFile, fvecs};

/// So many bytes are read at once, or one row where that has more: enough that calls of the kernel cost nothing beside
/// the copying, and little enough to stay in a core's cache on the way.
const BLOCK_BYTES: usize = 1 << 20;

/// The rows of a file that have not been read yet.
#[derive(Debug)]
pub struct Blocks {
    file: VectorFile,
    next_row: u64,
    buffer: Vec<u8>,
}

impl Blocks {
    pub(super) fn new(file: VectorFile) -> Self {
        Self { file, next_row: 0, buffer: Vec::new() }
    }

    /// The components of the next rows, one after the other, as float32 in this machine's byte order; `None` after the last
    /// row. Whether they are finite is not looked at.
    ///
    /// # Errors
    ///
    /// [`FileError`] where the file cannot be read, a row of `.fvecs` has another dimension than the first, or the file has
    /// changed since it was opened.
    pub fn next_block(&mut self) -> Result<Option<&[u8]>, FileError> {
        match self.read() {
            Ok(0) => Ok(None),
            Ok(bytes) => Ok(Some(&self.buffer[..bytes])),
            Err(error) => Err(error.of(self.file.path.clone())),
        }
    }

    /// Fills the buffer; the answer is how many bytes of it are components.
    fn read(&mut self) -> Result<usize, PartError> {
        let Header { rows, dimension, layout } = self.file.header;
        if self.next_row == rows {
            return self.unchanged().map(|()| 0);
        }
        let (start, before_row) = match layout {
            Layout::Npy { data } => (data, 0),
            Layout::Fvecs => (0, size_of::<u32>()),
        };
        let components = dimension as usize * size_of::<f32>();
        let stride = before_row + components;
        let count = ((BLOCK_BYTES / stride).max(1) as u64).min(rows - self.next_row) as usize;
        self.buffer.resize(count * stride, 0);
        let offset = start + self.next_row * stride as u64;
        self.file.file.read_exact_at(&mut self.buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PartError::Changed("it ends too early".to_owned()),
            _ => error.into(),
        })?;
        if layout == Layout::Fvecs {
            for row in 0..count {
                let at = row * stride;
                fvecs::check_dimension(&self.buffer[at..], self.next_row + row as u64, dimension)?;
                self.buffer.copy_within(at + before_row..at + stride, row * components);
            }
        }
        let bytes = count * components;
        if cfg!(target_endian = "big") {
            self.buffer[..bytes].as_chunks_mut::<4>().0.iter_mut().for_each(|component| component.reverse());
        }
        self.next_row += count as u64;
        Ok(bytes)
    }

    /// Is the file what it was when its header was read? Rows of before and of after would make a segment that never was.
    fn unchanged(&self) -> Result<(), PartError> {
        let (before, now) = (self.file.stamp, Stamp::of(&self.file.file.metadata()?));
        if before.size != now.size {
            return Err(PartError::Changed(format!("it had {} bytes, and has {}", before.size, now.size)));
        }
        if before != now {
            return Err(PartError::Changed("it was written to".to_owned()));
        }
        Ok(())
    }
}

impl Stamp {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}
