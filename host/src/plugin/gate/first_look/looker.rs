//! The child process of a first look, as the host has it: started, waited for, and ended with all that it has started.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::SUBCOMMAND;

/// The child. What it writes goes to memory, not to pipes: so nothing has to read while it runs, and a process that the
/// plugin starts and leaves behind cannot hold the reading up.
pub(super) struct Looker {
    process: Child,
    pidfd: OwnedFd,
    pid: Pid,
    out: File,
    err: File,
    status: Option<ExitStatus>,
}

#[derive(Clone, Copy)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Looker {
    /// Starts it with these arguments behind the subcommand.
    pub fn start(program: &Path, arguments: &[&OsStr]) -> io::Result<Self> {
        let out = File::from(rustix::fs::memfd_create("first-look-out", MemfdFlags::CLOEXEC)?);
        let err = File::from(rustix::fs::memfd_create("first-look-err", MemfdFlags::CLOEXEC)?);
        let mut process = Command::new(program)
            .arg(SUBCOMMAND)
            .args(arguments)
            // Its end tells the child that this process is gone; see `child`.
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(err.try_clone()?)
            // A group of its own: what the plugin starts there is ended with it, and a Ctrl-C is the host's alone.
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&process);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        match pidfd {
            Ok(pidfd) => Ok(Self { process, pidfd, pid, out, err, status: None }),
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error.into())
            }
        }
    }

    /// Waits on a blocking thread until the child has ended, and does not reap it, so that its id stays its own until the
    /// group has been ended. Where nobody waits for that thread any longer, the child is killed, which ends it as well.
    pub async fn ended(&self) -> io::Result<()> {
        let pidfd = self.pidfd.try_clone()?;
        let wait = move || loop {
            match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                // It is no child any longer: `drop` has reaped it.
                Ok(_) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        };
        tokio::task::spawn_blocking(wait).await.map_err(io::Error::other)?
    }

    /// Ends the child's whole group and gives the child's status. A child that has ended already keeps its status.
    pub fn kill_and_reap(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // Before it is reaped: until then no other group can have this number. No such group is no error.
        match rustix::process::kill_process_group(self.pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        let status = self.process.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    /// What it has written, or the end of it.
    pub fn said(&self, stream: Stream) -> io::Result<String> {
        /// The most that is read. What the child itself says is some KiB.
        const LIMIT: u64 = 4 * 1024 * 1024;
        let mut file = match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        };
        let size = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(size.saturating_sub(LIMIT)))?;
        let mut bytes = Vec::new();
        file.take(LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        if let Err(error) = self.kill_and_reap() {
            tracing::warn!(pid = self.pid.as_raw_nonzero(), %error, "the child of a first look could not be ended");
        }
    }
}
