//! How much memory segments may take: each load asks before it reads anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytesize::ByteSize;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Where no limit is configured, so many quarters of the memory that this process may use. The last one is for searches, for
/// the other components of the host, and for the kernel, which the files that are read pass through.
const QUARTERS: u64 = 3;

/// The limit of a node, and what has been taken of it.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    limit: u64,
    taken: AtomicU64,
}

/// So many bytes of the limit; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    limit: Arc<MemoryLimit>,
    bytes: u64,
}

/// There is not so much left.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} are needed and {} are left: segments take {} of the memory_limit of {}. Release some, add a QueryNode, or raise \
     memory_limit", ByteSize(*.needed), ByteSize(.limit.saturating_sub(*.taken)), ByteSize(*.taken), ByteSize(*.limit)
)]
pub(crate) struct LimitExceeded {
    needed: u64,
    taken: u64,
    limit: u64,
}

impl MemoryLimit {
    /// The configured one, or else a part of what this process may use.
    ///
    /// # Errors
    ///
    /// Where none is configured, and the system does not tell how much memory there is.
    pub(crate) fn new(configured: Option<ByteSize>) -> Result<Self, sysinfo::Error> {
        let limit = match configured {
            Some(limit) => limit.as_u64(),
            None => usable_memory()? / 4 * QUARTERS,
        };
        Ok(Self { limit, taken: AtomicU64::new(0) })
    }

    /// Takes so many bytes, all or none.
    ///
    /// # Errors
    ///
    /// Where not so many are left.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Result<Share, LimitExceeded> {
        let add = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.limit);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Share { limit: Arc::clone(self), bytes }),
            Err(taken) => Err(LimitExceeded { needed: bytes, taken, limit: self.limit }),
        }
    }

    /// How many bytes are taken: by segments that are held, by those that are being loaded, and by those that were released
    /// while a search still runs on them.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many bytes there are in all.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.limit.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The machine's memory, or less where a cgroup of this process (a container, a systemd unit) has a limit.
fn usable_memory() -> Result<u64, sysinfo::Error> {
    let mut system = System::new()?;
    system.refresh_memory();
    let pid = sysinfo::get_current_pid()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, ProcessRefreshKind::nothing());
    let of_cgroup = system.process(pid).and_then(|process| process.cgroup_limits()).map(|limits| limits.total_memory);
    let total = system.total_memory();
    Ok(of_cgroup.filter(|limit| *limit > 0).map_or(total, |limit| limit.min(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_out_than_there_is_and_what_is_dropped_is_there_again() {
        let limit = Arc::new(MemoryLimit::new(Some(ByteSize::gib(3))).unwrap());
        let two = limit.take(ByteSize::gib(2).as_u64()).unwrap();
        let error = limit.take(ByteSize::gib(2).as_u64()).unwrap_err();
        let text = "2.0 GiB are needed and 1.0 GiB are left: segments take 2.0 GiB of the memory_limit of 3.0 GiB. \
                    Release some, add a QueryNode, or raise memory_limit";
        assert_eq!(error.to_string(), text);
        let one = limit.take(ByteSize::gib(1).as_u64()).unwrap();
        assert!(limit.take(1).is_err() && limit.take(u64::MAX).is_err());
        assert_eq!(limit.taken(), limit.limit());
        drop((one, two));
        assert_eq!(limit.taken(), 0);
    }

    #[test]
    fn the_default_is_less_than_the_machine_has() {
        let limit = MemoryLimit::new(None).unwrap().limit();
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib: u64 = machine.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(limit > 0 && limit <= kib * 1024 / 4 * 3, "{limit} of {kib} KiB");
    }
}
