//! The host's state file: which leases its sessions have, for the process that comes after a crash.
//!
//! The file is held under `flock` for the life of the process. Whoever can lock it knows that the former process is dead, and
//! may revoke the leases that it names: the best proof for a takeover. Hosts of the same cluster and roles on one machine
//! each have a file of their own, with the first number that can be locked.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use plugin_api::identity::{Role, ServerId};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// More hosts of one kind than a machine has.
const MOST_FILES: u32 = 10_000;

/// A session that a process has, or had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The role.
    pub role: Role,
    /// The process's id.
    pub server_id: ServerId,
    /// The session's key.
    pub key: String,
    /// Its lease.
    pub lease_id: i64,
}

/// What the file holds: one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    /// The run of the machine in which it was written, for people.
    boot_id: String,
    sessions: Vec<Entry>,
}

/// The state file, locked.
pub struct StateFile {
    path: PathBuf,
    file: File,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    /// What the former process left.
    former: Vec<Entry>,
    /// Ours.
    own: Vec<Entry>,
}

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The directory cannot be made.
    #[error("cannot make the directory {path} for state files")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be opened, locked or read.
    #[error("cannot use the state file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// All numbers are taken.
    #[error("all {MOST_FILES} state files of this kind in {0} are held by other processes")]
    AllTaken(PathBuf),
}

impl StateFile {
    /// Locks the first free file for hosts with these roles in this cluster, and reads what the former process left in it.
    ///
    /// # Errors
    ///
    /// As [`StateFileError`] has them. A file whose content is not understood is taken for an empty one, and logged.
    pub fn open(directory: &Path, cluster: &str, roles: &[Role]) -> Result<Self, StateFileError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| StateFileError::Directory { path: directory.to_owned(), source })?;
        let kind = kind_of(cluster, roles);
        for number in 0..MOST_FILES {
            let path = directory.join(format!("{kind}-{number}.lock"));
            let opened = try_lock(&path).map_err(|source| StateFileError::File { path: path.clone(), source })?;
            if let Some((file, text)) = opened {
                let former = parse(&path, &text);
                return Ok(Self { path, file, sessions: Mutex::new(Sessions { former, own: Vec::new() }) });
            }
        }
        Err(StateFileError::AllTaken(directory.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the former process left for this role.
    pub fn former(&self, role: &Role) -> Vec<Entry> {
        self.lock().former.iter().filter(|entry| entry.role == *role).cloned().collect()
    }

    /// Adds a session of ours. Called before its key is put, so that no crash leaves a key that is not in the file.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn add(&self, entry: Entry) -> io::Result<()> {
        let mut sessions = self.lock();
        sessions.own.push(entry);
        self.write(&sessions)
    }

    /// Takes a lease out, which has gone.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn remove(&self, lease_id: i64) -> io::Result<()> {
        let mut sessions = self.lock();
        sessions.former.retain(|entry| entry.lease_id != lease_id);
        sessions.own.retain(|entry| entry.lease_id != lease_id);
        self.write(&sessions)
    }

    fn write(&self, sessions: &Sessions) -> io::Result<()> {
        let content = Content {
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
            sessions: sessions.former.iter().chain(&sessions.own).cloned().collect(),
        };
        let mut text = serde_json::to_string(&content)?;
        text.push('\n');
        // In place, for the lock belongs to this very file. The first line counts: what a crash leaves behind it is nothing.
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hosts of one kind share the files' name: 16 digits of a hash over cluster and roles.
fn kind_of(cluster: &str, roles: &[Role]) -> String {
    let mut roles: Vec<_> = roles.iter().map(Role::as_str).collect();
    roles.sort_unstable();
    let digest = Sha256::digest(format!("{cluster}\n{}", roles.join(",")));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The file and its text; `None` where another process holds it.
fn try_lock(path: &Path) -> io::Result<Option<(File, String)>> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some((file, String::from_utf8_lossy(&bytes).into_owned())))
}

fn parse(path: &Path, text: &str) -> Vec<Entry> {
    let Some(line) = text.lines().next() else {
        return Vec::new();
    };
    match serde_json::from_str::<Content>(line) {
        Ok(content) => content.sessions,
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "the former process's state file is not understood: its sessions must run out");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role() -> Role {
        Role::new("rootcoord").expect("a role")
    }

    fn entry(lease_id: i64) -> Entry {
        Entry { role: role(), server_id: ServerId(3), key: "by-dev/meta/session/rootcoord".to_owned(), lease_id }
    }

    #[test]
    fn the_next_process_finds_what_a_dead_one_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = StateFile::open(directory.path(), "c", &[role()]).expect("a state file");
        assert_eq!(first.former(&role()), []);
        first.add(entry(1)).expect("written");
        first.add(entry(2)).expect("written");
        first.remove(1).expect("written");
        drop(first);
        let second = StateFile::open(directory.path(), "c", &[role()]).expect("a state file");
        assert_eq!(second.former(&role()), [entry(2)]);
        assert_eq!(second.former(&Role::new("querycoord").expect("a role")), []);
    }

    #[test]
    fn what_the_former_process_left_stays_until_it_is_cleared() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || StateFile::open(directory.path(), "c", &[role()]).expect("a state file");
        open().add(entry(1)).expect("written");
        open().add(entry(2)).expect("written");
        let third = open();
        assert_eq!(third.former(&role()), [entry(1), entry(2)]);
        third.remove(1).expect("written");
        drop(third);
        assert_eq!(open().former(&role()), [entry(2)]);
    }

    #[test]
    fn a_living_process_keeps_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = StateFile::open(directory.path(), "c", &[role()]).expect("a state file");
        first.add(entry(1)).expect("written");
        let second = StateFile::open(directory.path(), "c", &[role()]).expect("a state file");
        assert_ne!(first.path(), second.path());
        assert_eq!(second.former(&role()), []);
    }

    #[test]
    fn another_cluster_or_role_has_another_file() {
        let querynode = Role::new("querynode").expect("a role");
        let kinds = [kind_of("a", &[role()]), kind_of("b", &[role()]), kind_of("a", &[querynode.clone(), role()])];
        assert!(kinds[0] != kinds[1] && kinds[1] != kinds[2] && kinds[0] != kinds[2]);
        assert_eq!(kinds[2], kind_of("a", &[role(), querynode]));
    }

    #[test]
    fn rubbish_is_no_proof() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = StateFile::open(directory.path(), "c", &[role()]).expect("a state file");
        std::fs::write(first.path(), "{\"sessions\":[{\"ro").expect("written");
        let path = first.path().to_owned();
        drop(first);
        let second = StateFile::open(directory.path(), "c", &[role()]).expect("a state file");
        assert_eq!((second.path(), second.former(&role())), (path.as_path(), vec![]));
    }
}
