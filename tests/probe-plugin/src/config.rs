//! What a test can configure of a probe: its descriptor, what it does by itself, and where its faults are told of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use plugin_api::descriptor::{Dependency, Descriptor, Kind, LeasePolicy, WaitPolicy};
use plugin_api::identity::Role;
use serde::Deserialize;

use crate::knobs::{FaultConfig, Method};

/// A probe's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Coordinator or node.
    pub kind: Kind,
    /// The component's version.
    pub version: Option<semver::Version>,
    /// The roles that it calls.
    pub dependencies: Vec<DependencyConfig>,
    /// At the lease's deadline.
    pub lease_policy: Option<LeasePolicy>,
    /// Methods that are held during a swap.
    pub gated: Vec<String>,
    /// What goes wrong in its life.
    pub faults: BTreeMap<Method, FaultConfig>,
    /// More of that, in a file that may come, change and go while the host runs; see [`crate::knobs`].
    pub knobs_file: Option<PathBuf>,
    /// It writes metadata in `start`, and notes how that ended.
    pub write_in_start: bool,
    /// How long `on_stopping` takes.
    pub moving_ms: u64,
    /// Its heart beats in the metadata while it is active.
    pub beats: bool,
}

/// A role that the probe calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DependencyConfig {
    /// The role.
    pub role: Role,
    /// Coordinator or node.
    #[serde(default)]
    pub kind: Kind,
    /// Not needed for `/readyz`.
    #[serde(default)]
    pub optional: bool,
    /// The start waits at most so long.
    pub wait_ms: Option<u64>,
    /// It waits for so many peers; for all where it is not given.
    pub wait_count: Option<usize>,
    /// How long a call waits that does not say so itself.
    #[serde(default)]
    pub call_wait_ms: u64,
}

impl ProbeConfig {
    /// What it says of itself: it plays the role whose section it was made from.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            kind: self.kind,
            version: self.version.clone(),
            dependencies: self.dependencies.iter().map(DependencyConfig::dependency).collect(),
            lease_policy: self.lease_policy,
            gated: self.gated.clone(),
            ..Descriptor::default()
        }
    }
}

impl DependencyConfig {
    fn dependency(&self) -> Dependency {
        let wait = match (self.wait_ms.map(Duration::from_millis), self.wait_count) {
            (None, _) => WaitPolicy::No,
            (Some(timeout), Some(count)) => WaitPolicy::AtLeast { count, timeout },
            (Some(timeout), None) => WaitPolicy::All { timeout },
        };
        Dependency {
            role: self.role.clone(),
            kind: self.kind,
            required: !self.optional,
            wait,
            call_wait: Duration::from_millis(self.call_wait_ms),
        }
    }
}
