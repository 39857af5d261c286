use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use tonic::Code;

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

fn open(path: &Path) -> Result<VectorFile, FileError> {
    DataDirs::new(vec![path.parent().unwrap().to_owned()]).open(path)
}

/// All components of a file.
fn read(path: &Path) -> Result<Vec<f32>, FileError> {
    let mut blocks = open(path)?.into_blocks();
    let mut values = Vec::new();
    while let Some(block) = blocks.next_block()? {
        values.extend(block.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)));
    }
    Ok(values)
}

fn error_of(content: &[u8]) -> String {
    let (_dir, path) = written(content);
    let error = read(&path).unwrap_err();
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
        let header = open(&path).unwrap().header();
        assert_eq!((header.rows, header.dimension), (2, 3));
        assert_eq!(read(&path).unwrap(), values);
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
        (with("<f4", &"<".repeat(60_000)), "found '<<<<<<<<<<<<<<<<"),
        (npy_file(GOOD, &six)[..20].to_vec(), "its header"),
        ([npy::MAGIC.as_slice(), &[9, 0, 0, 0]].concat(), "format version"),
        (npy::MAGIC.to_vec(), "its header"),
    ];
    for (content, text) in cases {
        let error = error_of(&content);
        assert!(error.contains(text) && error.len() < 500, "{error}");
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
    ];
    for (content, text) in cases {
        let error = error_of(&content);
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn files_of_many_blocks_give_all_their_rows() {
    for dimension in [1, 3, 1000, 32_768] {
        let rows = 3 * (1 << 20) / (4 * dimension) + 7;
        let values: Vec<f32> = (0..rows * dimension).map(|at| at as f32).collect();
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}\n");
        let rows: Vec<_> = values.chunks(dimension).collect();
        for content in [npy_file(&header, &values), fvecs_file(&rows)] {
            let (_dir, path) = written(&content);
            assert_eq!(read(&path).unwrap(), values);
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let values = vec![0.5_f32; 1 << 20];
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1024, 1024), }\n";
    let content = npy_file(header, &values);
    let half = content.len() as u64 / 2;
    type Change = fn(&File, u64);
    let changes: [(Change, &str); 4] = [
        (|file, half| file.set_len(half).unwrap(), "it ends too early"),
        (|file, half| file.set_len(half * 3).unwrap(), "bytes, and has"),
        (|file, half| file.write_all_at(b"new", half).unwrap(), "it was written to"),
        (|file, _| file.write_all_at(b"new", 0).unwrap(), "it was written to"),
    ];
    for (change, text) in changes {
        let (_dir, path) = written(&content);
        // The clock of a file system may stand still for some milliseconds.
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let mut blocks = open(&path).unwrap().into_blocks();
        assert!(blocks.next_block().unwrap().is_some());
        change(&File::options().write(true).open(&path).unwrap(), half);
        let error = loop {
            match blocks.next_block() {
                Ok(block) => assert!(block.is_some(), "{text}: nobody has noticed"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), Code::Aborted);
        let error = error.to_string();
        assert!(error.contains("has changed while it was read") && error.contains(text), "{error}");
    }
}

/// Changes some bytes, cuts some out, puts some in, or cuts the end off.
fn corrupt(content: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        // Mostly where the header is.
        let end = if random.bool() { content.len().min(80) } else { content.len() };
        let at = random.usize(0..end.max(1)).min(content.len());
        let bytes: Vec<u8> = (0..random.usize(1..9)).map(|_| random.u8(..)).collect();
        let until = (at + bytes.len()).min(content.len());
        match random.u32(0..5) {
            0 => content[at..until].copy_from_slice(&bytes[..until - at]),
            1 => drop(content.drain(at..until)),
            2 => drop(content.splice(at..at, bytes)),
            3 => content.truncate(at),
            _ => content[at..until].fill_with(|| random.choice(*b"0123456789,() '").unwrap()),
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
fn a_corrupt_file_is_refused_or_gives_as_many_numbers_as_it_says() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, -6.5];
    let whole = [npy_file(GOOD, &values), fvecs_file(&[&values[..3], &values[3..]])];
    let (mut refused, mut read_anyway) = (0, 0);
    let (_dir, path) = written(&[]);
    for round in 0..3000 {
        let mut content = whole[round % 2].clone();
        corrupt(&mut content, &mut random);
        std::fs::write(&path, &content).unwrap();
        match open(&path).map(|file| file.header()) {
            Err(error) => {
                refused += 1;
                assert_eq!(error.code(), Code::InvalidArgument, "{error}");
                assert!(error.to_string().len() < 500, "{error}");
            }
            Ok(Header { rows, dimension, .. }) => match read(&path) {
                // A row of .fvecs that has another dimension.
                Err(error) => assert_eq!(error.code(), Code::InvalidArgument, "{error}"),
                Ok(values) => {
                    read_anyway += 1;
                    assert_eq!(values.len() as u64, rows * u64::from(dimension));
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    let is_npy = content.starts_with(&npy::MAGIC);
                    assert!(!is_npy || content.ends_with(&bytes), "not what is in the file");
                }
            },
        }
    }
    assert!(refused > 100 && read_anyway > 100, "{refused} refused, {read_anyway} read");
}
