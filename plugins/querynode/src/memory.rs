//! Memory that nobody can change, in a sealed memfd that is mapped: the rows of a segment, and what was computed of them.
//!
//! A mapped file that somebody truncates under a search is a SIGBUS for the whole host, and one that somebody overwrites
//! gives answers that were never right. So a file is copied into a memfd, which is then sealed: the kernel refuses every
//! write, every change of its size and every writable mapping, to this process too, until the last mapping is gone.
//!
//! The descriptor is kept beside the mapping, since a swap hands it over in place of the bytes: whoever gets it maps the very
//! same memory. It trusts nothing but the kernel: what is no memfd, is not sealed, or has another size is not mapped.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use memmap2::Mmap;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;

/// What the kernel is to refuse of a memfd from its sealing on; another seal too.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// Bytes that never change, at least one. They begin at a page. Freed, for this generation, when it is dropped.
#[derive(Debug)]
pub(crate) struct Sealed {
    mapping: Mmap,
    file: File,
}

/// A memfd that is being filled.
pub(crate) struct Unsealed(File);

/// A descriptor that came from elsewhere is not mapped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSealed {
    /// The kernel knows of no seals.
    #[error("the descriptor is that of no memfd")]
    NoMemfd(#[source] io::Error),
    /// Somebody could change it.
    #[error("the memfd can be changed: it is sealed by {found:?}, which has to be {SEALS:?} at least")]
    Changeable { found: SealFlags },
    /// It is something else.
    #[error("the memfd has {found} bytes, which has to be {expected}")]
    Size { expected: u64, found: u64 },
    /// There is no room for it.
    #[error("the memfd cannot be mapped")]
    Map(#[source] io::Error),
}

impl Unsealed {
    /// An empty one. The name is for people who look at `/proc/<pid>/maps`; it need not be unique.
    ///
    /// # Errors
    ///
    /// Where the process has too many open files, or there is no memory.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let created = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3, which has no way yet to say that nobody is to run what is in it.
            Err(Errno::INVAL) => memfd_create(name, flags),
            created => created,
        };
        Ok(Self(File::from(created?)))
    }

    /// Writes at this place, whatever has been written before.
    ///
    /// # Errors
    ///
    /// Where there is no memory.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// What it is, as it is.
    #[cfg(test)]
    pub(crate) fn into_unsealed(self) -> OwnedFd {
        self.0.into()
    }

    /// Seals it, and maps it.
    ///
    /// # Errors
    ///
    /// Where there is no room for the mapping, or nothing was written.
    pub(crate) fn seal(self) -> io::Result<Sealed> {
        fcntl_add_seals(&self.0, SEALS)?;
        Sealed::map(self.0)
    }
}

/// Takes the bytes one after the other.
impl Write for Unsealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sealed {
    /// What is behind a descriptor that another generation has sealed and handed over.
    ///
    /// # Errors
    ///
    /// Where it is not just that.
    pub(crate) fn receive(descriptor: OwnedFd, expected: u64) -> Result<Self, NotSealed> {
        let found = fcntl_get_seals(&descriptor).map_err(|error| NotSealed::NoMemfd(error.into()))?;
        if !found.contains(SEALS) {
            return Err(NotSealed::Changeable { found });
        }
        let file = File::from(descriptor);
        let found = file.metadata().map_err(NotSealed::Map)?.len();
        if found != expected {
            return Err(NotSealed::Size { expected, found });
        }
        Self::map(file).map_err(NotSealed::Map)
    }

    /// Another descriptor of it, to be handed over.
    ///
    /// # Errors
    ///
    /// Where the process has too many open files.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Is it the very same memory?
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let number = |file: &File| file.metadata().ok().map(|of| (of.dev(), of.ino()));
        number(&self.file).is_some_and(|mine| number(&other.file) == Some(mine))
    }

    /// Maps what has been sealed.
    #[expect(unsafe_code, reason = "a mapping is only as safe as the file, and this one is sealed")]
    fn map(file: File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there are no bytes"));
        }
        // SAFETY: the seals, which were added without an error or found to be there, keep the memfd's bytes and its size as
        // they are for as long as it is mapped, whoever has a descriptor of it. It has no writable mapping: the seal would
        // have been refused.
        let mapping = unsafe { Mmap::map(&file)? };
        Ok(Self { mapping, file })
    }
}

impl Deref for Sealed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.mapping
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use memmap2::MmapOptions;

    use super::*;

    #[test]
    fn the_bytes_are_what_was_written() {
        let mut unsealed = Unsealed::new("some").unwrap();
        unsealed.write_all(b"abcd").unwrap();
        unsealed.write_at(b"xyz", 3).unwrap();
        assert_eq!(*unsealed.seal().unwrap(), *b"abcxyz");
    }

    #[test]
    fn what_is_sealed_cannot_be_changed_by_anybody() {
        let mut unsealed = Unsealed::new("sealed").unwrap();
        unsealed.write_all(&[1; 16_384]).unwrap();
        let mut other = unsealed.0.try_clone().unwrap();
        let again = rustix::fs::openat(rustix::fs::CWD, fd_path(&other), rustix::fs::OFlags::RDWR, 0.into()).unwrap();
        let sealed = unsealed.seal().unwrap();
        for file in [&mut other, &mut File::from(again)] {
            file.seek(SeekFrom::Start(0)).unwrap();
            for refused in [file.write(&[7; 4]).map(drop), file.set_len(0), file.set_len(1 << 20)] {
                assert_eq!(refused.unwrap_err().raw_os_error(), Some(Errno::PERM.raw_os_error()));
            }
            let shared = memmap2::MmapRaw::map_raw(&*file).map(drop);
            assert_eq!(shared.unwrap_err().raw_os_error(), Some(Errno::PERM.raw_os_error()));
            let mode = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            assert_eq!(rustix::fs::fallocate(&*file, mode, 0, 4096), Err(Errno::PERM));
            assert_eq!(fcntl_add_seals(&*file, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
        }
        assert!(MmapOptions::new().map_raw_read_only(&other).is_ok());
        assert_eq!(*sealed, [1; 16_384]);
    }

    #[test]
    fn nothing_cannot_be_mapped() {
        assert!(Unsealed::new("empty").unwrap().seal().is_err());
    }

    #[test]
    fn a_descriptor_is_mapped_only_where_the_kernel_says_that_nobody_can_change_it() {
        let filled = || {
            let mut unsealed = Unsealed::new("filled").unwrap();
            unsealed.write_all(&[7; 100]).unwrap();
            unsealed
        };
        let sealed = filled().seal().unwrap();
        let same = Sealed::receive(sealed.descriptor().unwrap(), 100).unwrap();
        assert_eq!(*same, [7; 100]);
        assert!(same.is_same(&sealed) && !same.is_same(&filled().seal().unwrap()));
        let refused = |descriptor, bytes| Sealed::receive(descriptor, bytes).unwrap_err().to_string();
        for bytes in [0, 99, 101] {
            let text = format!("the memfd has 100 bytes, which has to be {bytes}");
            assert_eq!(refused(sealed.descriptor().unwrap(), bytes), text);
        }
        // Each seal that is missing is one too few.
        for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE, SealFlags::SEAL] {
            let open = filled();
            fcntl_add_seals(&open.0, SEALS.difference(missing)).unwrap();
            assert!(
                refused(open.0.into(), 100).starts_with("the memfd can be changed: it is sealed by"),
                "{missing:?}"
            );
        }
        let regular = tempfile::tempfile().unwrap();
        regular.set_len(100).unwrap();
        let text = refused(regular.into(), 100);
        // A folder in memory knows of seals, and has none to give.
        assert!(text.contains("is that of no memfd") || text.contains("can be changed"), "{text}");
        let (pipe, _) = std::io::pipe().unwrap();
        assert_eq!(refused(pipe.into(), 100), "the descriptor is that of no memfd");
    }

    fn fd_path(file: &File) -> String {
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))
    }
}
