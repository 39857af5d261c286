//! The Unix socket of a host: `<run_dir>/<server_id>.sock`, mode 0600.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use plugin_api::identity::ServerId;
use tokio::net::UnixListener;

/// A socket that listens. Its file is removed with it.
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket, removed when this is dropped: if it is still the one that was made here.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the socket {} (host.run_dir)", path.display())]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

impl SocketError {
    /// Does another host have it?
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

impl Socket {
    /// Makes the socket of the host with this id, and its directory where that is not there.
    ///
    /// # Errors
    ///
    /// [`SocketError`], with the path.
    pub fn bind(run_dir: &Path, server_id: ServerId) -> Result<Self, SocketError> {
        let path = run_dir.join(format!("{server_id}.sock"));
        let failed = |source| SocketError { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(run_dir).map_err(failed)?;
        is_own(run_dir).map_err(failed)?;
        // Every cluster begins to count at 1, and hosts of several may share a directory: what answers is another's.
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            let taken = "another host answers there: hosts of two clusters need two directories";
            return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, taken)));
        }
        // It is made in a directory that only its owner enters, and comes to its place with its mode: before that, nobody
        // else could connect, and who connects may change the host.
        let private =
            tempfile::Builder::new().prefix(".").permissions(Permissions::from_mode(0o700)).tempdir_in(run_dir);
        let private = private.map_err(failed)?;
        let made = private.path().join("s");
        let listener = UnixListener::bind(&made).map_err(failed)?;
        std::fs::set_permissions(&made, Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::rename(&made, &path).map_err(failed)?;
        let inode = std::fs::symlink_metadata(&path).map_err(failed)?.ino();
        Ok(Self { listener, file: SocketFile { path, inode } })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// Is it a directory in which nobody else can put another socket in the place of ours?
fn is_own(run_dir: &Path) -> io::Result<()> {
    let (found, own) = (std::fs::metadata(run_dir)?, rustix::process::geteuid().as_raw());
    let refused = |text| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if ![0, own].contains(&found.uid()) {
        return refused(format!("the directory belongs to the user {}, and the host runs as {own}", found.uid()));
    }
    // With the sticky bit everybody's files are their own.
    if found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 {
        return refused(format!("others can write in the directory (mode {:o}): chmod go-w it", found.mode() & 0o7777));
    }
    Ok(())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() != self.inode) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_that_others_can_write_is_refused_but_with_the_sticky_bit() {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        for (mode, is_own) in [(0o700, true), (0o755, true), (0o1777, true), (0o777, false), (0o720, false)] {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("it is ours");
            let bound = Socket::bind(folder.path(), ServerId(7));
            assert_eq!(bound.is_ok(), is_own, "{mode:o}");
            if let Err(error) = bound {
                assert!(plugin_api::error::chain(&error).contains("chmod go-w"), "{error:?}");
            }
        }
    }
}
