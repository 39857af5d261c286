//! Files of vectors: NumPy's `.npy` and `.fvecs`, and the folders that they may be read from.
//!
//! A file is what its content says, not its name: `.npy` begins with a magic string, all else has to be `.fvecs`. Reading
//! blocks, so callers are on `spawn_blocking`. Nothing here knows collections or segments.

mod data_dirs;
mod fvecs;
mod npy;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tonic::{Code, Status};

pub use data_dirs::DataDirs;

use crate::batch::MAX_DIMENSION;

/// An open file of vectors, whose header is read and whose size fits it.
#[derive(Debug)]
pub struct VectorFile {
    path: PathBuf,
    file: File,
    header: Header,
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

/// Why a file of vectors is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No folder is configured.
    #[error("{path}: data_dirs in the component's configuration is empty, so no file may be read")]
    NoDataDirs {
        /// The file.
        path: PathBuf,
    },
    /// It lies elsewhere.
    #[error("{path} is {resolved}, which is in none of the data_dirs ({allowed})")]
    Outside {
        /// The file, as it was named.
        path: PathBuf,
        /// Where it is, with links resolved.
        resolved: PathBuf,
        /// The folders that are allowed.
        allowed: String,
    },
    /// It is in none of the folders.
    #[error("{path}: there is no such file in any of the data_dirs ({searched})")]
    NotFound {
        /// The file, as it was named.
        path: PathBuf,
        /// The folders that were searched.
        searched: String,
    },
    /// It cannot be opened or read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("{path} is no regular file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is not what it has to be.
    #[error("{path}: {what} has to be {expected}, found {found}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What it has to be.
        expected: String,
        /// What it is.
        found: String,
    },
}

impl FileError {
    /// The gRPC code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::NoDataDirs { .. } => Code::FailedPrecondition,
            Self::Outside { .. } => Code::PermissionDenied,
            Self::NotFound { .. } => Code::NotFound,
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Code::NotFound,
                io::ErrorKind::PermissionDenied => Code::PermissionDenied,
                _ => Code::Unavailable,
            },
            Self::NotAFile { .. } | Self::Content { .. } => Code::InvalidArgument,
        }
    }
}

impl From<FileError> for Status {
    fn from(error: FileError) -> Self {
        Self::new(error.code(), plugin_api::error::chain(&error))
    }
}

/// What is wrong with a file's content; the file's name is added where it is known.
struct Wrong {
    what: String,
    expected: String,
    found: String,
}

impl Wrong {
    fn new(what: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        Self { what: what.to_string(), expected: expected.to_string(), found: found.to_string() }
    }
}

/// A header cannot be had: the file cannot be read, or is no file of vectors.
enum HeaderError {
    Read(io::Error),
    Wrong(Wrong),
}

impl From<io::Error> for HeaderError {
    fn from(source: io::Error) -> Self {
        Self::Read(source)
    }
}

impl From<Wrong> for HeaderError {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl VectorFile {
    /// Opens a file and reads its header. Callers get their paths from [`DataDirs::resolve`].
    ///
    /// # Errors
    ///
    /// [`FileError`] where it cannot be read, or is no whole file of float32 vectors.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let path = path.to_owned();
        let unreadable = |source| FileError::Read { path: path.clone(), source };
        // Asked before it is opened: opening a pipe would wait for its writer.
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(FileError::NotAFile { path });
        }
        let mut file = File::open(&path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        match read_header(&mut file, size) {
            Ok(header) => Ok(Self { path, file, header }),
            Err(HeaderError::Read(source)) => Err(FileError::Read { path, source }),
            Err(HeaderError::Wrong(wrong)) => Err(wrong.of(path)),
        }
    }

    /// What its header says.
    pub fn header(&self) -> Header {
        self.header
    }

    /// All its vectors, one after the other.
    ///
    /// # Errors
    ///
    /// [`FileError`] where it cannot be read, has become shorter, or a component is not finite.
    pub fn read(mut self) -> Result<Vec<f32>, FileError> {
        match self.read_rows() {
            Ok(values) => Ok(values),
            Err(HeaderError::Read(source)) => Err(FileError::Read { path: self.path, source }),
            Err(HeaderError::Wrong(wrong)) => Err(wrong.of(self.path)),
        }
    }

    fn read_rows(&mut self) -> Result<Vec<f32>, HeaderError> {
        let Header { rows, dimension, layout } = self.header;
        let start = match layout {
            Layout::Npy { data } => data,
            Layout::Fvecs => 0,
        };
        self.file.seek(SeekFrom::Start(start))?;
        let mut reader = BufReader::with_capacity(1 << 20, &mut self.file);
        let mut row_bytes = vec![0; dimension as usize * size_of::<f32>()];
        let mut values = Vec::with_capacity(rows as usize * dimension as usize);
        for row in 0..rows {
            if layout == Layout::Fvecs {
                fvecs::check_dimension(&mut reader, row, dimension)?;
            }
            reader.read_exact(&mut row_bytes)?;
            values.extend(row_bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (row, component) = (at / dimension as usize, at % dimension as usize);
                Err(Wrong::new(format!("component {component} of row {row}"), "finite", values[at]).into())
            }
            None => Ok(values),
        }
    }
}

impl Wrong {
    fn of(self, path: PathBuf) -> FileError {
        FileError::Content { path, what: self.what, expected: self.expected, found: self.found }
    }
}

fn read_header(file: &mut File, size: u64) -> Result<Header, HeaderError> {
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
mod tests {
    use super::*;

    fn written(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn npy_file(header: &str, values: &[f32]) -> Vec<u8> {
        let mut content = [npy::MAGIC.as_slice(), &[1, 0], &(header.len() as u16).to_le_bytes()].concat();
        content.extend_from_slice(header.as_bytes());
        content.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        content
    }

    fn fvecs_file(rows: &[&[f32]]) -> Vec<u8> {
        let row = |row: &&[f32]| {
            let values = row.iter().flat_map(|value| value.to_le_bytes());
            (row.len() as i32).to_le_bytes().into_iter().chain(values).collect::<Vec<_>>()
        };
        rows.iter().flat_map(row).collect()
    }

    fn error_of(content: &[u8]) -> String {
        let (_dir, path) = written(content);
        let error = VectorFile::open(&path).and_then(VectorFile::read).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let text = error.to_string();
        assert!(text.starts_with(path.to_str().unwrap()), "{text}");
        text
    }

    const GOOD: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";

    #[test]
    fn both_kinds_of_files_give_their_rows() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, -6.5];
        for content in [npy_file(GOOD, &values), fvecs_file(&[&values[..3], &values[3..]])] {
            let (_dir, path) = written(&content);
            let file = VectorFile::open(&path).unwrap();
            assert_eq!((file.header().rows, file.header().dimension), (2, 3));
            assert_eq!(file.read().unwrap(), values);
        }
    }

    #[test]
    fn each_bad_npy_is_refused_with_what_is_wrong() {
        let six = [0.0; 6];
        let with = |from: &str, to: &str| npy_file(&GOOD.replace(from, to), &six);
        let cases = [
            (vec![], "its size has to be more than 0 bytes, found an empty file"),
            (with("<f4", ">f4"), "descr has to be '<f4' (float32, little-endian), found '>f4'"),
            (with("<f4", "<f8"), "found '<f8'"),
            (with("'<f4'", "[('x', '<f4')]"), "descr has to be '<f4' (float32, little-endian), found [('x', '<f4')]"),
            (with("False", "True"), "fortran_order has to be False (C order), found True"),
            (with("(2, 3)", "(6,)"), "shape has to be (rows, dimension), two numbers, found (6,)"),
            (with("(2, 3)", "(2, 3, 1)"), "found (2, 3, 1)"),
            (with("(2, 3)", "(2, -3)"), "found (2, -3)"),
            (npy_file(&GOOD.replace("(2, 3)", "(0, 3)"), &[]), "its number of rows has to be at least 1"),
            (with("(2, 3)", "(6, 0)"), "its dimension has to be 1 to 32768, found 0"),
            (with("(2, 3)", "(2, 40000)"), "found 40000"),
            (with("(2, 3)", "(3, 3)"), "its size"),
            (with("(2, 3)", "(9223372036854775807, 3)"), "its size"),
            (with("'shape'", "'form'"), "shape has to be"),
            (npy_file(GOOD, &six[..5]), "its size has to be 94 bytes (2 rows of 3 float32), found 90"),
            (npy_file(GOOD, &[0.0; 7]), "found 98"),
            (npy_file(GOOD, &[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0]), "component 1 of row 1 has to be finite, found NaN"),
            (npy_file(GOOD, &six)[..20].to_vec(), "its header"),
            ([npy::MAGIC.as_slice(), &[9, 0, 0, 0]].concat(), "format version"),
            (npy::MAGIC.to_vec(), "its header"),
        ];
        for (content, text) in cases {
            let error = error_of(&content);
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn each_bad_fvecs_is_refused_with_what_is_wrong() {
        let whole = fvecs_file(&[&[1.0, 2.0], &[3.0, 4.0]]);
        let cases = [
            (whole[..whole.len() - 1].to_vec(), "its size has to be a multiple of 12 bytes"),
            (whole[..3].to_vec(), "neither"),
            (b"hello, world".to_vec(), "its dimension"),
            (fvecs_file(&[&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]]).into_iter().chain([0; 8]).collect(), "its size"),
            (fvecs_file(&[&[]]), "its dimension has to be 1 to 32768, found 0"),
            ((-1_i32).to_le_bytes().repeat(2), "its dimension"),
            ([fvecs_file(&[&[1.0; 3]]), fvecs_file(&[&[1.0; 2], &[]])].concat(), "the dimension of row 1 has to be 3"),
            (fvecs_file(&[&[1.0, f32::INFINITY]]), "component 1 of row 0 has to be finite, found inf"),
        ];
        for (content, text) in cases {
            let error = error_of(&content);
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(VectorFile::open(dir.path()), Err(FileError::NotAFile { .. })));
        assert_eq!(VectorFile::open(&dir.path().join("none")).unwrap_err().code(), Code::NotFound);
    }
}
