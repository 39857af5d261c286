//! The TCP connections of a process, as the kernel has them: what it keeps open shows here, whatever it says.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};

/// Open, and not on its way to its end.
const ESTABLISHED: &str = "01";

/// How many connections to `address` a process has made.
///
/// # Panics
///
/// Where `/proc` is not that of Linux.
pub(crate) fn connected_to(pid: i32, address: SocketAddr) -> usize {
    let own = inodes(pid);
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its connections");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_one = |line: &Vec<&str>| {
        let [_, _, remote, state, _, _, _, _, _, inode, ..] = line[..] else { return false };
        state == ESTABLISHED && parse(remote) == Some(address) && own.contains(inode)
    };
    lines.filter(is_one).count()
}

/// The sockets that a process holds.
fn inodes(pid: i32) -> HashSet<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| {
        let text = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
        Some(text)
    };
    links.filter_map(inode).collect()
}

/// `0100007F:1F90` is 127.0.0.1:8080: the address is in the machine's order of bytes.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
    Some(SocketAddr::from((address, u16::from_str_radix(port, 16).ok()?)))
}
