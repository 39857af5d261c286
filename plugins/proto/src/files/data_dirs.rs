//! The folders that files of vectors may be read from.

use std::io;
use std::path::{Path, PathBuf};

use super::FileError;

/// The folders of `data_dirs`, in the configured order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataDirs(Vec<PathBuf>);

impl DataDirs {
    /// These folders. They need not be there yet.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self(dirs)
    }

    /// Where a file is, with links resolved. A relative path is looked for in each folder, in order.
    ///
    /// # Errors
    ///
    /// [`FileError`] where no folder is configured, the file is in none of them, or a link leads out of them.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, FileError> {
        if self.0.is_empty() {
            return Err(FileError::NoDataDirs { path: path.to_owned() });
        }
        // An absolute path stays as it is when it is joined.
        for candidate in self.0.iter().map(|dir| dir.join(path)) {
            match candidate.canonicalize() {
                Ok(resolved) => return self.check(path, resolved),
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(FileError::Read { path: candidate, source }),
            }
        }
        Err(FileError::NotFound { path: path.to_owned(), searched: self.list() })
    }

    fn check(&self, path: &Path, resolved: PathBuf) -> Result<PathBuf, FileError> {
        let holds = |dir: &PathBuf| dir.canonicalize().is_ok_and(|dir| resolved.starts_with(dir));
        if self.0.iter().any(holds) {
            Ok(resolved)
        } else {
            Err(FileError::Outside { path: path.to_owned(), resolved, allowed: self.list() })
        }
    }

    fn list(&self) -> String {
        let dirs: Vec<_> = self.0.iter().map(|dir| dir.display().to_string()).collect();
        dirs.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tonic::Code;

    use super::*;

    /// `a/in`, `b/in`, `b/only` in two allowed folders, `out` beside them, and links.
    fn folders() -> (tempfile::TempDir, DataDirs) {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for dir in ["a", "b", "ab"] {
            fs::create_dir(at(dir)).unwrap();
        }
        for file in ["a/in", "b/in", "b/only", "out", "ab/file"] {
            fs::write(at(file), file).unwrap();
        }
        symlink(at("out"), at("a/leads_out")).unwrap();
        symlink(at("b/only"), at("a/leads_in")).unwrap();
        let dirs = DataDirs::new(vec![at("a"), at("b")]);
        (root, dirs)
    }

    #[test]
    fn a_file_is_found_in_the_first_folder_that_has_it() {
        let (root, dirs) = folders();
        let real = root.path().canonicalize().unwrap();
        let cases = [("in", "a/in"), ("only", "b/only"), ("leads_in", "b/only"), ("../b/in", "b/in")];
        for (path, found) in cases {
            assert_eq!(dirs.resolve(Path::new(path)).unwrap(), real.join(found));
        }
        assert_eq!(dirs.resolve(&root.path().join("b/in")).unwrap(), real.join("b/in"));
    }

    #[test]
    fn a_file_outside_is_refused_whatever_the_way_to_it() {
        let (root, dirs) = folders();
        let absolute = root.path().join("out");
        // `ab` begins like `a`, which must not count.
        let beside = root.path().join("ab/file");
        for path in [Path::new("leads_out"), Path::new("../out"), &absolute, &beside] {
            let error = dirs.resolve(path).unwrap_err();
            assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        }
    }

    #[test]
    fn a_file_that_is_nowhere_is_named() {
        let (_root, dirs) = folders();
        let error = dirs.resolve(Path::new("none.npy")).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert!(error.to_string().starts_with("none.npy: there is no such file"), "{error}");
    }

    #[test]
    fn without_folders_the_key_is_named() {
        let error = DataDirs::default().resolve(Path::new("/etc/passwd")).unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.to_string().contains("data_dirs"), "{error}");
    }
}
