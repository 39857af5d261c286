//! `[component.<role>]`: one component of this host.

use std::collections::BTreeMap;
use std::time::Duration;

use plugin_api::descriptor::{Descriptor, LeasePolicy};
use plugin_api::identity::Role;
use semver::VersionReq;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use super::mistake::{Mistake, Problem};
use crate::plugin::gate::{Allowed, Digest};

/// How one component is loaded and run. The section's name is its role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComponentConfig {
    /// The plugin: a name, looked up as `lib<name>.so` beside the executable and then in `plugins.dirs`; or a path, which
    /// has a slash. Empty is the role's own name, because that is what a plugin is mostly called.
    pub plugin: String,
    /// The SHA-256 of the plugin's file, in hex: another file is refused. Empty does not check, which is right for
    /// development.
    #[serde(with = "super::optional")]
    pub sha256: Option<Digest>,
    /// The versions of the component that are allowed, as a semver requirement such as `1.2` or `>=1.2, <3`. Empty allows
    /// any; `*` any but pre-releases.
    #[serde(with = "super::optional")]
    pub version: Option<VersionReq>,
    /// Does a coordinator stand by, started and linked, while another of its role is active? Default true. Without it the
    /// component waits in step 4 of its start, and one that was replaced is held in quarantine: whoever runs a spare by other
    /// means wants to see that. A node has a key of its own, and nothing to stand by for.
    pub standby: bool,
    /// What happens at the lease's deadline while etcd does not answer: `fence` refuses new calls until the lease is certain
    /// again, `serve` answers on. Empty is what the component's descriptor says.
    #[serde(with = "super::optional")]
    pub lease_policy: Option<LeasePolicy>,
    /// The most that its `start` may take. A start reads its state from etcd; a minute allows for much of it.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// The most that its `activate` may take, which reads again what another may have written.
    #[serde(with = "humantime_serde")]
    pub activate_timeout: Duration,
    /// The most that one call of its `on_peer` may take. Past it that call is dropped, and the component is told the table
    /// of that role as it is by then: it works on.
    #[serde(with = "humantime_serde")]
    pub on_peer_timeout: Duration,
    /// The most that its `deactivate` may take. Short, because a successor may be waiting for it.
    #[serde(with = "humantime_serde")]
    pub deactivate_timeout: Duration,
    /// The most that its `stop` may take.
    #[serde(with = "humantime_serde")]
    pub stop_timeout: Duration,
    /// The author's own keys.
    pub config: toml::Table,
}

impl Default for ComponentConfig {
    fn default() -> Self {
        Self {
            plugin: String::new(),
            sha256: None,
            version: None,
            standby: true,
            lease_policy: None,
            start_timeout: Duration::from_secs(60),
            activate_timeout: Duration::from_secs(30),
            on_peer_timeout: Duration::from_secs(30),
            deactivate_timeout: Duration::from_secs(3),
            stop_timeout: Duration::from_secs(3),
            config: toml::Table::new(),
        }
    }
}

impl ComponentConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        for (key, value) in [
            ("start_timeout", self.start_timeout),
            ("activate_timeout", self.activate_timeout),
            ("on_peer_timeout", self.on_peer_timeout),
            ("deactivate_timeout", self.deactivate_timeout),
            ("stop_timeout", self.stop_timeout),
        ] {
            if value.is_zero() {
                mistakes.push((key, "expected more than 0s, found 0s".to_owned()));
            }
        }
        mistakes
    }

    /// The plugin's name or path: what is configured, or else the role's name.
    pub fn plugin<'a>(&'a self, role: &'a Role) -> &'a str {
        if self.plugin.is_empty() { role.as_str() } else { &self.plugin }
    }

    /// What the gate compares a plugin with.
    pub fn allowed(&self, role: &Role) -> Allowed {
        Allowed { role: role.clone(), version: self.version.clone(), sha256: self.sha256 }
    }

    /// The policy at the lease's deadline: what is configured, or else what the component says.
    pub fn lease_policy(&self, descriptor: &Descriptor) -> LeasePolicy {
        self.lease_policy.unwrap_or_else(|| descriptor.effective_lease_policy())
    }

    /// The author's own keys as TOML text.
    pub fn config_toml(&self) -> String {
        self.config.to_string()
    }
}

/// All components of the layers.
pub(super) fn read_all(layers: &Layers, mistakes: &mut Vec<Mistake>) -> BTreeMap<Role, ComponentConfig> {
    mistakes.extend(layers.wrong_component_table());
    let names = layers.components();
    let mut components = BTreeMap::new();
    for name in &names {
        let section = format!("component.{name}");
        let mut component: ComponentConfig = layers.read(&section, mistakes);
        component.config = layers.author_table(name, mistakes);
        match Role::new(name.as_str()) {
            Ok(role) => {
                components.insert(role, component);
            }
            Err(invalid) => {
                let lower = name.to_ascii_lowercase();
                let text = if lower != *name && names.contains(&lower) {
                    format!(
                        "differs from component.{lower} in upper and lower case only; a role is in lower case, once"
                    )
                } else {
                    invalid.to_string()
                };
                let place = layers.in_file(&["component".to_owned(), name.clone()]);
                mistakes.push(Mistake { place, key: section, problem: Problem::Value(text) });
            }
        }
    }
    components
}
