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

mod entry;
mod error;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};

pub use self::entry::Writer;
use self::entry::{Entry, Fault};
pub use self::error::PlaceError;

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

/// Opens the file at this path wherever it lies, for who only looks at it; gives its resolved path as well.
///
/// # Errors
///
/// [`PlaceError::Io`] or [`PlaceError::NotRegular`].
pub fn open_anywhere(path: &Path) -> Result<(PathBuf, File), PlaceError> {
    let resolved = path.canonicalize().map_err(failed(path))?;
    let is_regular = |stat: &Stat| match entry::irregular(stat) {
        None => Ok(()),
        Some(found) => Err(PlaceError::NotRegular { path: resolved.clone(), found }),
    };
    // As above: looked at before it is opened, and again what was opened.
    is_regular(&rustix::fs::stat(&resolved).map_err(|errno| failed(&resolved)(errno.into()))?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&resolved, flags, Mode::empty()).map_err(|errno| failed(&resolved)(errno.into()))?;
    is_regular(&rustix::fs::fstat(&file).map_err(|errno| failed(&resolved)(errno.into()))?)?;
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
        match entry::irregular(&stat) {
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

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Io { path, source }
}
