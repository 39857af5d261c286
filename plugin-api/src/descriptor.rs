//! What a component says of itself before it is started.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::Role;

/// Is there one active server of a role, or are there many?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Exclusive: one is active in a cluster, others may stand by.
    Coordinator,
    /// Many at the same time, told apart by their server ids.
    #[default]
    Node,
}

/// What happens at the lease's deadline while etcd does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeasePolicy {
    /// New calls are refused with `FENCED` until the lease is certain again.
    Fence,
    /// The component serves on; its writes answer `FENCED` until it is registered.
    Serve,
}

impl fmt::Display for LeasePolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Fence => "fence",
            Self::Serve => "serve",
        })
    }
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no lease policy: there are 'fence' and 'serve'")]
pub struct InvalidLeasePolicy(pub String);

impl FromStr for LeasePolicy {
    type Err = InvalidLeasePolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "fence" => Ok(Self::Fence),
            "serve" => Ok(Self::Serve),
            other => Err(InvalidLeasePolicy(other.to_owned())),
        }
    }
}

/// Does the component's start wait for a dependency? A wait that runs out is logged, and the start goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitPolicy {
    /// The start does not wait: the dependency is needed when it is called.
    #[default]
    No,
    /// Until this many peers of the role are ready, and at most so long.
    AtLeast {
        /// How many.
        count: usize,
        /// How long at most.
        timeout: Duration,
    },
    /// Until all peers that are registered when the start begins are ready, and at most so long.
    All {
        /// How long at most.
        timeout: Duration,
    },
}

/// A role that a component calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The role.
    pub role: Role,
    /// One active coordinator, or each node.
    pub kind: Kind,
    /// Is the component not ready (`/readyz`) without it? Its state code never depends on it.
    pub required: bool,
    /// Does the start wait for it?
    pub wait: WaitPolicy,
    /// How long a call waits for readiness where it does not say so itself; zero refuses at once.
    pub call_wait: Duration,
}

impl Dependency {
    /// A dependency on the active coordinator of a role: required, not waited for.
    ///
    /// # Panics
    ///
    /// If `role` is no role; see [`Role::new`].
    pub fn coordinator(role: &str) -> Self {
        Self::new(role, Kind::Coordinator)
    }

    /// A dependency on all nodes of a role: required, not waited for.
    ///
    /// # Panics
    ///
    /// If `role` is no role; see [`Role::new`].
    pub fn nodes(role: &str) -> Self {
        Self::new(role, Kind::Node)
    }

    fn new(role: &str, kind: Kind) -> Self {
        Self { role: expect_role(role), kind, required: true, wait: WaitPolicy::No, call_wait: Duration::ZERO }
    }

    /// The same, but `/readyz` does not ask for it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// The same with another wait at the start.
    #[must_use]
    pub fn wait(mut self, wait: WaitPolicy) -> Self {
        self.wait = wait;
        self
    }

    /// The same with a wait for each call that does not name its own.
    #[must_use]
    pub fn call_wait(mut self, wait: Duration) -> Self {
        self.call_wait = wait;
        self
    }
}

/// What a component says of itself. It may depend on the component's configuration.
///
/// The default is a node without dependencies, of the role whose section of the configuration it was made from, with the
/// version of the crate that exports it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Descriptor {
    /// The role that it plays; `None` plays any.
    pub role: Option<Role>,
    /// Exclusive or node.
    pub kind: Kind,
    /// The component's version; `None` is that of the exporting crate.
    pub version: Option<semver::Version>,
    /// The roles that it calls.
    pub dependencies: Vec<Dependency>,
    /// At the lease's deadline; `None` is *fence* for a coordinator and *serve* for a node.
    pub lease_policy: Option<LeasePolicy>,
    /// Methods that are held while a swap hands over the state: full gRPC paths (`/package.Service/Method`), or `*`.
    pub gated: Vec<String>,
}

impl Descriptor {
    /// An exclusive component of this role.
    ///
    /// # Panics
    ///
    /// If `role` is no role; see [`Role::new`].
    pub fn coordinator(role: &str) -> Self {
        Self { role: Some(expect_role(role)), kind: Kind::Coordinator, ..Self::default() }
    }

    /// A component of which there are many.
    ///
    /// # Panics
    ///
    /// If `role` is no role; see [`Role::new`].
    pub fn node(role: &str) -> Self {
        Self { role: Some(expect_role(role)), kind: Kind::Node, ..Self::default() }
    }

    /// The same with one more dependency.
    #[must_use]
    pub fn depends_on(mut self, dependency: Dependency) -> Self {
        self.dependencies.push(dependency);
        self
    }

    /// The same with a lease policy of its own.
    #[must_use]
    pub fn lease_policy(mut self, policy: LeasePolicy) -> Self {
        self.lease_policy = Some(policy);
        self
    }

    /// The same with one more method that is held while a swap hands over the state.
    #[must_use]
    pub fn gate(mut self, path: impl Into<String>) -> Self {
        self.gated.push(path.into());
        self
    }

    /// The policy at the lease's deadline.
    pub fn effective_lease_policy(&self) -> LeasePolicy {
        self.lease_policy.unwrap_or(match self.kind {
            Kind::Coordinator => LeasePolicy::Fence,
            Kind::Node => LeasePolicy::Serve,
        })
    }
}

fn expect_role(name: &str) -> Role {
    match Role::new(name) {
        Ok(role) => role,
        Err(invalid) => panic!("{invalid}"),
    }
}
