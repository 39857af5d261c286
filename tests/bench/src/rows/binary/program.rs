//! The two programs, each as a process of its own.

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
pub enum Program {
    /// The built host with the built probe.
    Host,
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

impl Program {
    /// Where it puts its key.
    pub fn prefix(self, cluster: &Cluster) -> String {
        match self {
            Self::Host => cluster.keys().active_session(&Role::new(ROLE).expect("a role")),
            Self::Bare => format!("{}/bare/", cluster.name()),
        }
    }

    /// Where it listens, by its key's value.
    pub fn address_in(self, value: &[u8]) -> String {
        match self {
            Self::Host => serde_json::from_slice::<Record>(value).expect("a session's value is a record").address,
            Self::Bare => String::from_utf8_lossy(value).into_owned(),
        }
    }
}

impl Started {
    /// It does not wait for anything.
    pub fn of(program: Program, cluster: &Cluster) -> Self {
        match program {
            Program::Host => {
                let config = cluster.config().set("session.ttl", format!("{TTL_SECONDS}s"));
                Self::Host(Box::new(cluster.spawn(config.probe(ROLE, node()))))
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
