//! A segment on its way from its file into memory, a block at a time.
//!
//! At no time is there more of it in memory than the memfd that it is read into and one block. All of it blocks or computes:
//! callers are on `spawn_blocking`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proto::files::{self, Blocks, DataDirs, FileError, VectorFile};
use proto::rootcoord::v1::{CollectionInfo, SegmentInfo};
use tonic::{Code, Status};

use crate::limit::Share;
use crate::memory::Unsealed;
use crate::segment::{Rows, Segment};

/// So many components are checked in one step, as many as are read in one.
const CHECKED_AT_ONCE: usize = 1 << 18;

/// A segment whose file is open, and fits what RootCoord says of it.
pub(crate) struct Reading {
    info: SegmentInfo,
    path: PathBuf,
    dimension: usize,
    step: Step,
    /// Given back after the memory: fields are dropped in this order.
    share: Share,
}

/// What comes after a step.
pub(crate) enum Next {
    /// Another one.
    More(Reading),
    /// All rows are in memory, and all of them are finite.
    Done(Read),
}

/// A segment whose rows are in memory.
pub(crate) struct Read {
    info: SegmentInfo,
    path: PathBuf,
    rows: Rows,
    share: Share,
}

/// How far it is.
enum Step {
    /// Rows are read into memory.
    Reads(Blocks, Unsealed),
    /// Nobody can change them any more, and so many of their components are finite.
    Checks(Rows, usize),
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
    /// Opens the file of a segment of this collection, into memory of this share.
    pub(crate) fn begin(
        dirs: &DataDirs,
        collection: &CollectionInfo,
        info: SegmentInfo,
        share: Share,
    ) -> Result<Self, ReadingError> {
        // Opened anew, as a call may name more files than a process can have open: what it holds may be other rows by now,
        // but never more of them than the share is for.
        let file = open(dirs, collection, &info)?;
        let path = file.path().to_owned();
        match Unsealed::new(&format!("segment-{}", info.segment_id)) {
            Ok(memory) => Ok(Self {
                info,
                path,
                dimension: collection.dimension as usize,
                step: Step::Reads(file.into_blocks(), memory),
                share,
            }),
            Err(source) => {
                Err(ReadingError::Memory { segment_id: info.segment_id, path, doing: "memfd_create", source })
            }
        }
    }

    /// Reads or checks one block; the answer is whether there is more to do.
    pub(crate) fn step(mut self) -> Result<Next, ReadingError> {
        let segment_id = self.info.segment_id;
        let no_memory = |path: &PathBuf, doing| {
            let path = path.clone();
            move |source| ReadingError::Memory { segment_id, path, doing, source }
        };
        self.step = match self.step {
            Step::Reads(mut blocks, mut memory) => {
                let block = blocks.next_block().map_err(|source| ReadingError::File { segment_id, source })?;
                if let Some(block) = block {
                    memory.write_all(block).map_err(no_memory(&self.path, "writing to its memfd"))?;
                    Step::Reads(blocks, memory)
                } else {
                    let rows = memory.seal().and_then(Rows::new);
                    Step::Checks(rows.map_err(no_memory(&self.path, "mapping its memfd"))?, 0)
                }
            }
            Step::Checks(rows, checked) => {
                let rest = &rows[checked..];
                let block = &rest[..rest.len().min(CHECKED_AT_ONCE)];
                if block.is_empty() {
                    let Self { info, path, share, .. } = self;
                    return Ok(Next::Done(Read { info, path, rows, share }));
                }
                if let Some(at) = block.iter().position(|component| !component.is_finite()) {
                    let (at, dimension) = (checked + at, self.dimension);
                    let (row, component) = (at / dimension, at % dimension);
                    return Err(ReadingError::NotFinite {
                        segment_id,
                        path: self.path,
                        row,
                        component,
                        found: rows[at],
                    });
                }
                let checked = checked + block.len();
                Step::Checks(rows, checked)
            }
        };
        Ok(Next::More(self))
    }
}

impl Read {
    /// Computes what searches need beside the rows.
    pub(crate) fn into_segment(self, collection: &CollectionInfo) -> Result<Segment, ReadingError> {
        let Self { info, path, rows, share } = self;
        let segment_id = info.segment_id;
        Segment::new(info, collection, rows, Some(share)).map_err(|source| {
            let doing = "computing its norms";
            ReadingError::Memory { segment_id, path, doing, source }
        })
    }
}

/// Opens the file of a segment of this collection, and compares its header with what is known of the segment.
pub(crate) fn open(
    dirs: &DataDirs,
    collection: &CollectionInfo,
    info: &SegmentInfo,
) -> Result<VectorFile, ReadingError> {
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
