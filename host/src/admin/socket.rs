//! The Unix socket of a host: `<run_dir>/<server_id>.sock`, mode 0600.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use plugin_api::identity::ServerId;
use tokio::net::UnixListener;

/// A socket that listens. Its file is removed with it.
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket, removed when this is dropped.
pub(super) struct SocketFile(PathBuf);

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the socket {} (host.run_dir)", path.display())]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
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
        // An id is given out once: a file of this name was left by a host of a cluster whose etcd has lost its data.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, file: SocketFile(path) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "the socket's file could not be removed");
        }
    }
}
