//! A segment on its way from its file into memory, a block at a time.
//!
//! At no time is there more of it in memory than the memfd that it is read into and one block. All of it blocks or computes:
//! callers are on `spawn_blocking`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proto::files::{self, Blocks, DataDirs, FileError, VectorFile};
use proto::rootcoord::v1::{CollectionInfo, SegmentInfo};
use tonic::{Code, Status};

use crate::memory::{Rows, Unsealed};
use crate::segment::Segment;

/// A segment whose file is open, and fits what RootCoord says of it.
pub(crate) struct Reading {
    info: SegmentInfo,
    path: PathBuf,
    blocks: Blocks,
    memory: Unsealed,
}

/// Why a segment cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadingError {
    /// The file.
    #[error("segment {segment_id}")]
    File { segment_id: i64, source: FileError },
    /// The file is not the one that was added.
    #[error("segment {segment_id}: {path} has to have {what} {expected}, found {found}")]
    Differs { segment_id: i64, path: PathBuf, what: &'static str, expected: u64, found: u64 },
    /// A component is no number, or infinite.
    #[error("segment {segment_id}: {path}: component {component} of row {row} has to be finite, found {found}")]
    NotFinite { segment_id: i64, path: PathBuf, row: usize, component: usize, found: f32 },
    /// Its ids do not fit in 63 bits.
    #[error("segment {segment_id}: {num_rows} ids from {first_id} are too many")]
    Ids { segment_id: i64, first_id: i64, num_rows: u64 },
    /// The kernel gives no memory for it.
    #[error("segment {segment_id}: no memory for {path} ({doing})")]
    Memory { segment_id: i64, path: PathBuf, doing: &'static str, source: io::Error },
}

impl From<ReadingError> for Status {
    fn from(error: ReadingError) -> Self {
        let code = match &error {
            ReadingError::File { source, .. } => source.code(),
            ReadingError::Differs { .. } | ReadingError::NotFinite { .. } | ReadingError::Ids { .. } => {
                Code::InvalidArgument
            }
            ReadingError::Memory { source, .. } => files::code_of(source),
        };
        Self::new(code, plugin_api::error::chain(&error))
    }
}

impl Reading {
    /// Opens the file of a segment of this collection, and compares its header with what is known of the segment.
    pub(crate) fn begin(dirs: &DataDirs, collection: &CollectionInfo, info: SegmentInfo) -> Result<Self, ReadingError> {
        let file = open(dirs, collection, &info)?;
        let segment_id = info.segment_id;
        let path = file.path().to_owned();
        match Unsealed::new(&format!("segment-{segment_id}")) {
            Ok(memory) => Ok(Self { info, path, blocks: file.into_blocks(), memory }),
            Err(source) => Err(ReadingError::Memory { segment_id, path, doing: "memfd_create", source }),
        }
    }

    /// Reads one block; the answer is whether there may be more.
    pub(crate) fn step(&mut self) -> Result<bool, ReadingError> {
        let segment_id = self.info.segment_id;
        let block = self.blocks.next_block().map_err(|source| ReadingError::File { segment_id, source })?;
        let Some(block) = block else { return Ok(false) };
        match self.memory.write_all(block) {
            Ok(()) => Ok(true),
            Err(source) => {
                Err(ReadingError::Memory { segment_id, path: self.path.clone(), doing: "writing to a memfd", source })
            }
        }
    }

    /// Seals what was read, and checks it: from here on nobody can change it.
    pub(crate) fn finish(self, collection: &CollectionInfo) -> Result<Segment, ReadingError> {
        let Self { info, path, memory, .. } = self;
        let segment_id = info.segment_id;
        let rows = match memory.seal() {
            Ok(rows) => rows,
            Err(source) => return Err(ReadingError::Memory { segment_id, path, doing: "mapping a memfd", source }),
        };
        check(&info, collection, path, &rows)?;
        Ok(Segment::new(info, collection, rows))
    }
}

/// Reads a segment from its file, from beginning to end.
pub(crate) fn read(dirs: &DataDirs, collection: &CollectionInfo, info: SegmentInfo) -> Result<Segment, ReadingError> {
    let mut reading = Reading::begin(dirs, collection, info)?;
    while reading.step()? {}
    reading.finish(collection)
}

fn open(dirs: &DataDirs, collection: &CollectionInfo, info: &SegmentInfo) -> Result<VectorFile, ReadingError> {
    let segment_id = info.segment_id;
    if i64::try_from(info.num_rows).ok().and_then(|rows| info.first_id.checked_add(rows)).is_none() {
        return Err(ReadingError::Ids { segment_id, first_id: info.first_id, num_rows: info.num_rows });
    }
    let file = dirs.open(Path::new(&info.path)).map_err(|source| ReadingError::File { segment_id, source })?;
    let header = file.header();
    let checks = [
        ("dimension", u64::from(collection.dimension), u64::from(header.dimension)),
        ("rows", info.num_rows, header.rows),
    ];
    for (what, expected, found) in checks {
        if expected != found {
            let path = file.path().to_owned();
            return Err(ReadingError::Differs { segment_id, path, what, expected, found });
        }
    }
    Ok(file)
}

fn check(info: &SegmentInfo, collection: &CollectionInfo, path: PathBuf, rows: &Rows) -> Result<(), ReadingError> {
    let dimension = collection.dimension as usize;
    match rows.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ReadingError::NotFinite {
            segment_id: info.segment_id,
            path,
            row: at / dimension,
            component: at % dimension,
            found: rows[at],
        }),
    }
}
