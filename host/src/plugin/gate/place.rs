//! Where a plugin's file lies: inside the plugin directories, with nobody else able to change it.
//!
//! The path is resolved once; then each of its directories is opened from the one before it, without following links, and
//! what is checked is the opened descriptor. So a directory that is exchanged between the check and the use is either
//! refused or was the one checked, and the file that is handed out is the one that was looked at.
//!
//! Owned by root or by the host's user: the file and every directory above it, from the trusted root down. Writable by
//! nobody else: the same, but a *sticky* directory (`/tmp`) may be writable, because nobody but an entry's owner (and the
//! directory's, who is root or the host's user) can exchange an entry there, and the owner of the entry is checked as well.
//! POSIX ACLs are covered: their mask is shown as the group's permissions.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

/// What is asked of a file's place.
#[derive(Clone, Copy, Debug)]
pub struct PlaceRules<'a> {
    /// The file must lie in or below one of these.
    pub dirs: &'a [PathBuf],
    /// Directories above this one are not checked. Where the file does not lie below it, all are.
    pub trusted_root: &'a Path,
    /// The user, besides root, who may own the file and its directories.
    pub host_uid: u32,
}

/// Who can write a file or a directory besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The members of a group.
    Group(u32),
    /// Everybody.
    Everybody,
}

impl fmt::Display for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(gid) => write!(formatter, "group {gid}"),
            Self::Everybody => formatter.write_str("everybody"),
        }
    }
}

/// A place that is not safe to load from.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The path leads to nothing, or to nothing that may be read.
    #[error("cannot look at {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{path} is {found}: expected a regular file")]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file is outside the plugin directories.
    #[error(
        "{resolved}{} is outside the plugin directories ({}): put the file there, or add its directory to plugins.dirs",
        came_by(.path, .resolved), list(.dirs)
    )]
    Outside {
        /// The path as it was given.
        path: PathBuf,
        /// Where it leads, with all links resolved.
        resolved: PathBuf,
        /// The plugin directories.
        dirs: Vec<PathBuf>,
    },
    /// Somebody else owns the file or a directory above it, and so can change it.
    #[error(
        "{path} belongs to user {owner}: expected root or the host's user ({host_uid}), since its owner can change what is \
         loaded; `chown` it, or run the host as that user"
    )]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// The user who owns it.
        owner: u32,
        /// The host's user.
        host_uid: u32,
    },
    /// The same, where everybody may put files, as in `/tmp`.
    #[error(
        "{path} belongs to user {owner} and stands in the sticky directory {sticky}, where everybody may put files: \
         expected an entry of root or of the host's user ({host_uid}); move the plugin to a directory of its own"
    )]
    StickyOwner {
        /// The file or directory.
        path: PathBuf,
        /// The sticky directory that holds it.
        sticky: PathBuf,
        /// The user who owns it.
        owner: u32,
        /// The host's user.
        host_uid: u32,
    },
    /// Others can write the file, or exchange it in its directory.
    #[error(
        "{path} can be written by {writer} (mode {mode:04o}): whoever can write there can change what is loaded; \
         `chmod go-w {path}`, or for a directory that is safe for a reason the host cannot see set plugins.trusted_root \
         below it"
    )]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Who can write it.
        writer: Writer,
    },
}

/// Opens the file at this path for reading, if its place is safe; gives its resolved path as well.
///
/// # Errors
///
/// [`PlaceError`], which names the first directory or file, from the top, that breaks a rule.
pub fn open_checked(path: &Path, rules: &PlaceRules<'_>) -> Result<(PathBuf, File), PlaceError> {
    let resolved = path.canonicalize().map_err(failed(path))?;
    if !rules.dirs.iter().filter_map(|dir| dir.canonicalize().ok()).any(|dir| resolved.starts_with(dir)) {
        return Err(PlaceError::Outside { path: path.to_owned(), resolved, dirs: rules.dirs.to_vec() });
    }
    let mut walk = Walk::to_parent(&resolved, rules)?;
    let name = resolved.file_name().unwrap_or(OsStr::new("."));
    // Looked at before it is opened, because opening a device can have effects.
    walk.file_is_regular(name)?;
    let file = walk.enter(name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    Ok((resolved, File::from(file)))
}

/// Checks a directory and all above it by the same rules (but `dirs`, which says nothing of it).
///
/// # Errors
///
/// As of [`open_checked`].
pub fn check_dir(path: &Path, rules: &PlaceRules<'_>) -> Result<(), PlaceError> {
    let resolved = path.canonicalize().map_err(failed(path))?;
    let mut walk = Walk::to_parent(&resolved, rules)?;
    match resolved.file_name() {
        Some(name) => walk.enter(name, OFlags::PATH | OFlags::DIRECTORY).map(drop),
        None => Ok(()),
    }
}

/// The way from `/` to a file, one opened directory after the other.
struct Walk<'a> {
    at: PathBuf,
    dir: OwnedFd,
    sticky: bool,
    resolved: &'a Path,
    trusted_root: PathBuf,
    host_uid: u32,
}

impl<'a> Walk<'a> {
    fn to_parent(resolved: &'a Path, rules: &PlaceRules<'_>) -> Result<Self, PlaceError> {
        let root = Path::new("/");
        let dir = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(root)(errno.into()))?;
        // A trusted root that is not there has nothing below it, so that everything is checked.
        let trusted_root = rules.trusted_root.canonicalize().unwrap_or_else(|_| rules.trusted_root.to_owned());
        let mut walk =
            Self { at: root.to_owned(), dir, sticky: false, resolved, trusted_root, host_uid: rules.host_uid };
        let stat = walk.stat(&walk.dir)?;
        walk.check(&stat)?;
        for component in resolved.parent().unwrap_or(root).components().skip(1) {
            walk.dir = walk.enter(component.as_os_str(), OFlags::PATH | OFlags::DIRECTORY)?;
        }
        Ok(walk)
    }

    /// Opens an entry of the directory that was reached, and checks what was opened.
    fn enter(&mut self, name: &OsStr, flags: OFlags) -> Result<OwnedFd, PlaceError> {
        let path = self.at.join(name);
        let opened = rustix::fs::openat(&self.dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(&path)(errno.into()))?;
        self.at = path;
        let stat = self.stat(&opened)?;
        self.check(&stat)?;
        Ok(opened)
    }

    fn file_is_regular(&self, name: &OsStr) -> Result<(), PlaceError> {
        let path = self.at.join(name);
        let stat = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(&path)(errno.into()))?;
        match kind(&stat) {
            None => Ok(()),
            Some(found) => Err(PlaceError::NotRegular { path, found }),
        }
    }

    fn stat(&self, opened: impl AsFd) -> Result<Stat, PlaceError> {
        rustix::fs::fstat(opened).map_err(|errno| failed(&self.at)(errno.into()))
    }

    fn check(&mut self, stat: &Stat) -> Result<(), PlaceError> {
        let in_sticky = self.sticky;
        let entry = Entry::of(stat);
        self.sticky = entry.is_shared_sticky();
        let trusted = self.resolved.starts_with(&self.trusted_root) && !self.at.starts_with(&self.trusted_root);
        if trusted {
            return Ok(());
        }
        let path = self.at.clone();
        let (owner, host_uid) = (entry.owner, self.host_uid);
        match entry.fault(host_uid) {
            None => Ok(()),
            Some(Fault::Owner) if in_sticky => {
                let sticky = path.parent().unwrap_or(Path::new("/")).to_owned();
                Err(PlaceError::StickyOwner { path, sticky, owner, host_uid })
            }
            Some(Fault::Owner) => Err(PlaceError::Owner { path, owner, host_uid }),
            Some(Fault::Writable(writer)) => Err(PlaceError::Writable { path, mode: entry.mode, writer }),
        }
    }
}

/// What the rule needs to know of a file or directory.
struct Entry {
    owner: u32,
    group: u32,
    mode: u32,
    directory: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Owner,
    Writable(Writer),
}

impl Entry {
    fn of(stat: &Stat) -> Self {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Self { owner: stat.st_uid, group: stat.st_gid, mode: stat.st_mode & 0o7777, directory }
    }

    fn is_shared_sticky(&self) -> bool {
        self.directory && self.mode & 0o1000 != 0 && self.mode & 0o022 != 0
    }

    fn fault(&self, host_uid: u32) -> Option<Fault> {
        if self.owner != 0 && self.owner != host_uid {
            Some(Fault::Owner)
        } else if self.is_shared_sticky() {
            None
        } else if self.mode & 0o002 != 0 {
            Some(Fault::Writable(Writer::Everybody))
        } else if self.mode & 0o020 != 0 {
            Some(Fault::Writable(Writer::Group(self.group)))
        } else {
            None
        }
    }
}

fn kind(stat: &Stat) -> Option<&'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a pipe"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Unknown => Some("of an unknown kind"),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Io { path, source }
}

fn came_by(path: &Path, resolved: &Path) -> String {
    if path == resolved { String::new() } else { format!(" (where {} leads)", path.display()) }
}

pub(super) fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: u32 = 1000;

    fn fault(owner: u32, mode: u32, directory: bool) -> Option<Fault> {
        Entry { owner, group: 7, mode, directory }.fault(HOST)
    }

    #[test]
    fn root_and_the_hosts_user_may_own_it() {
        for directory in [false, true] {
            assert_eq!(fault(0, 0o755, directory), None);
            assert_eq!(fault(HOST, 0o700, directory), None);
            assert_eq!(fault(1001, 0o755, directory), Some(Fault::Owner));
        }
    }

    #[test]
    fn nobody_else_may_write_it() {
        for directory in [false, true] {
            assert_eq!(fault(HOST, 0o775, directory), Some(Fault::Writable(Writer::Group(7))));
            assert_eq!(fault(HOST, 0o757, directory), Some(Fault::Writable(Writer::Everybody)));
        }
    }

    #[test]
    fn a_sticky_directory_may_be_shared_but_not_foreign() {
        assert_eq!(fault(0, 0o1777, true), None);
        assert_eq!(fault(0, 0o1775, true), None);
        assert_eq!(fault(1001, 0o1777, true), Some(Fault::Owner));
        assert_eq!(fault(0, 0o1777, false), Some(Fault::Writable(Writer::Everybody)), "on a file it means nothing");
    }
}
