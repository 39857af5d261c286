//! Memory that nobody can change: the rows of a segment, in a sealed memfd that is mapped from there.
//!
//! A mapped file that somebody truncates under a search is a SIGBUS for the whole host, and one that somebody overwrites
//! gives answers that were never right. So a file is copied into a memfd, which is then sealed: the kernel refuses every
//! write, every change of its size and every writable mapping, to this process too, until the last mapping is gone.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;

use memmap2::Mmap;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::limit::Share;

/// What the kernel is to refuse of a memfd from its sealing on; another seal too.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// Components of vectors, one after the other, that never change. Freed when it is dropped.
pub(crate) struct Rows {
    mapping: Mmap,
    /// Given back after the memory: fields are dropped in this order.
    _share: Option<Share>,
}

/// A memfd that is being filled.
pub(crate) struct Unsealed {
    file: File,
    share: Option<Share>,
}

impl Unsealed {
    /// An empty one, whose memory was taken of a limit. The name is for people who look at `/proc/<pid>/maps`; it need not
    /// be unique.
    ///
    /// # Errors
    ///
    /// Where the process has too many open files, or there is no memory.
    pub(crate) fn new(name: &str, share: Option<Share>) -> io::Result<Self> {
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let created = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3, which has no way yet to say that nobody is to run what is in it.
            Err(Errno::INVAL) => memfd_create(name, flags),
            created => created,
        };
        Ok(Self { file: File::from(created?), share })
    }

    /// Seals it, and maps it. Only the mapping is kept, so that a segment takes no file descriptor.
    ///
    /// # Errors
    ///
    /// Where there is no room for the mapping, or what was written is no whole number of components.
    #[expect(unsafe_code, reason = "a mapping is only as safe as the file, and this one is sealed")]
    pub(crate) fn seal(self) -> io::Result<Rows> {
        let bytes = self.file.metadata()?.len();
        if bytes == 0 || !bytes.is_multiple_of(size_of::<f32>() as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{bytes} bytes are no float32 numbers")));
        }
        fcntl_add_seals(&self.file, SEALS)?;
        // SAFETY: the seals, which were added without an error, keep the memfd's bytes and its size as they are for as long
        // as it is mapped, whoever has a descriptor of it. It has no writable mapping: the seal would have been refused.
        let mapping = unsafe { Mmap::map(&self.file)? };
        Ok(Rows { mapping, _share: self.share })
    }
}

/// Takes the components' bytes, in this machine's order.
impl Write for Unsealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Rows {
    /// These components, at least one, in a memfd of their own.
    ///
    /// # Errors
    ///
    /// As [`Unsealed::new`] and [`Unsealed::seal`].
    #[cfg(test)]
    pub(crate) fn from_slice(values: &[f32]) -> io::Result<Self> {
        let mut unsealed = Unsealed::new("from_slice", None)?;
        unsealed.write_all(bytemuck::cast_slice(values))?;
        unsealed.seal()
    }
}

impl Deref for Rows {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // A mapping begins at a page, and its size was checked.
        bytemuck::cast_slice(&self.mapping)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use memmap2::MmapOptions;

    use super::*;

    #[test]
    fn the_rows_are_what_was_written() {
        let rows = Rows::from_slice(&[1.0, -2.5, f32::MIN_POSITIVE]).unwrap();
        assert_eq!(*rows, [1.0, -2.5, f32::MIN_POSITIVE]);
    }

    #[test]
    fn what_is_sealed_cannot_be_changed_by_anybody() {
        let mut unsealed = Unsealed::new("sealed", None).unwrap();
        unsealed.write_all(bytemuck::cast_slice(&[1.0_f32; 4096])).unwrap();
        let mut other = unsealed.file.try_clone().unwrap();
        let again = rustix::fs::openat(rustix::fs::CWD, fd_path(&other), rustix::fs::OFlags::RDWR, 0.into()).unwrap();
        let rows = unsealed.seal().unwrap();
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
        assert_eq!(*rows, [1.0; 4096]);
    }

    #[test]
    fn what_is_no_whole_number_of_components_is_refused() {
        for bytes in [0, 3, 4097] {
            let mut unsealed = Unsealed::new("odd", None).unwrap();
            unsealed.write_all(&vec![0; bytes]).unwrap();
            assert!(unsealed.seal().is_err(), "{bytes}");
        }
    }

    fn fd_path(file: &File) -> String {
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))
    }
}
