//! What a process uses, as the kernel has it.

use std::collections::BTreeMap;
use std::fs;

use crate::host::Host;

/// What a process uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes (`VmRSS`).
    pub memory: u64,
    /// Of that, without pages of files that nobody has written to (`RssAnon`): these the kernel takes back.
    pub private: u64,
    /// How many threads have each name.
    pub threads: BTreeMap<String, usize>,
    /// How many files of each kind are open, sockets among them.
    pub files: BTreeMap<String, usize>,
}

impl Usage {
    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.threads.values().sum()
    }
}

impl Host {
    /// What its present process uses.
    ///
    /// # Panics
    ///
    /// Where `/proc` is not that of Linux.
    pub fn usage(&self) -> Usage {
        self.assert_running();
        let process = format!("/proc/{}", self.pid());
        let status = fs::read_to_string(format!("{process}/status")).expect("Linux shows a process' status");
        let bytes = |name: &str| {
            let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            kilobytes.and_then(|number| number.parse::<u64>().ok()).expect("Linux counts a process' memory") * 1024
        };
        let (memory, private) = (bytes("VmRSS:"), bytes("RssAnon:"));
        let read = |folder: &str| {
            fs::read_dir(format!("{process}/{folder}")).expect("Linux shows what a process has").flatten()
        };
        // What has ended or was closed meanwhile has no name any more.
        let threads = read("task").filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        let files = read("fd").filter_map(|file| Some(fs::read_link(file.path()).ok()?.display().to_string()));
        let threads = count(threads.map(|name| name.trim().to_owned()));
        let files = count(files.map(|name| name.split(":[").next().unwrap_or_default().to_owned()));
        Usage { memory, private, threads, files }
    }
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}
