//! Where it was measured: figures of one machine say nothing of another.

use std::process::Command;

use serde::Serialize;

/// A machine, and what it does beside.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many threads of it there are.
    pub threads: usize,
    /// In MiB.
    pub memory: u64,
    /// The kernel's version.
    pub kernel: String,
    /// The load of the last minute before the beginning.
    pub load: String,
    /// etcd's version.
    pub etcd: String,
    /// Measured without optimization, which says nothing.
    pub debug: bool,
}

impl Machine {
    /// This one. What cannot be found out is empty.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let kib = value(&read("/proc/meminfo"), "MemTotal");
        let etcd = Command::new("etcd").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        Self {
            processor: value(&read("/proc/cpuinfo"), "model name"),
            threads: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory: kib.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            etcd: value(&String::from_utf8_lossy(&etcd), "etcd Version"),
            debug: cfg!(debug_assertions),
        }
    }
}
