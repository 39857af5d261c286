//! The rule for one file or directory: who owns it, who can write it. No I/O.

use std::fmt;

use rustix::fs::{FileType, Stat};

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

/// What the rule needs to know of a file or directory.
pub(super) struct Entry {
    pub(super) owner: u32,
    group: u32,
    pub(super) mode: u32,
    directory: bool,
}

/// How it breaks the rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Somebody else owns it.
    Owner,
    /// Somebody else can write it.
    Writable(Writer),
}

impl Entry {
    pub(super) fn of(stat: &Stat) -> Self {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Self { owner: stat.st_uid, group: stat.st_gid, mode: stat.st_mode & 0o7777, directory }
    }

    pub(super) fn is_shared_sticky(&self) -> bool {
        self.directory && self.mode & 0o1000 != 0 && self.mode & 0o022 != 0
    }

    pub(super) fn fault(&self, host_uid: u32) -> Option<Fault> {
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

/// What it is, if it is no regular file.
pub(super) fn irregular(stat: &Stat) -> Option<&'static str> {
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
