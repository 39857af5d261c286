//! The two programs, each as a process of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use componenthost::cluster::Record;
use plugin_api::identity::Role;
use tests::probe::node;
use tests::{Cluster, Host};

use crate::built::bare_server;

/// As the host's default has it.
const TTL_SECONDS: u64 = 15;

/// The component's role.
const ROLE: &str = "alpha";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program<'a> {
    /// The built host with the built probe.
    Host,
    /// The same, whose plugin has nothing that only a debugger reads.
    Stripped(&'a Path),
    /// The bare server.
    Bare,
}

/// One that was started. It is killed on drop.
pub enum Started {
    /// The host.
    Host(Box<Host>),
    /// The bare server.
    Bare(Child),
}

impl Program<'_> {
    /// Where it puts its key.
    pub fn prefix(self, cluster: &Cluster) -> String {
        match self {
            Self::Host | Self::Stripped(_) => cluster.keys().active_session(&Role::new(ROLE).expect("a role")),
            Self::Bare => format!("{}/bare/", cluster.name()),
        }
    }

    /// Where it listens, by its key's value.
    pub fn address_in(self, value: &[u8]) -> String {
        match self {
            Self::Host | Self::Stripped(_) => {
                serde_json::from_slice::<Record>(value).expect("a session's value is a record").address
            }
            Self::Bare => String::from_utf8_lossy(value).into_owned(),
        }
    }
}

impl Started {
    /// It does not wait for anything.
    pub fn of(program: Program<'_>, cluster: &Cluster) -> Self {
        let config = cluster.config().set("session.ttl", format!("{TTL_SECONDS}s")).probe(ROLE, node());
        let host = |config| Self::Host(Box::new(cluster.spawn(config)));
        match program {
            Program::Host => host(config),
            Program::Stripped(file) => {
                let folder = file.parent().expect("a file lies in a folder").display().to_string();
                let config = config.set("plugins.dirs", vec![folder]);
                host(config.linked(ROLE, &file.display().to_string(), node()))
            }
            Program::Bare => Self::Bare(bare(cluster)),
        }
    }

    /// Its process' number.
    pub fn pid(&self) -> i64 {
        match self {
            Self::Host(host) => host.pid().into(),
            Self::Bare(child) => child.id().into(),
        }
    }
}

fn bare(cluster: &Cluster) -> Child {
    let key = format!("{}{}", Program::Bare.prefix(cluster), fastrand::u64(..));
    let mut command = Command::new(bare_server());
    command.args([cluster.etcd().endpoint(), key, TTL_SECONDS.to_string()]).stdin(Stdio::null());
    command.spawn().expect("it can be started")
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Self::Bare(child) = self {
            // It fails where the process has ended already, which is as good.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
