//! The configuration file of one host, as a test writes it.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::binary::plugin_file;

/// A configuration in the making: keys by their dotted path, as in `session.ttl`.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    root: Map<String, Value>,
}

impl HostConfig {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one key set; the tables on its way are made.
    ///
    /// # Panics
    ///
    /// Where the path leads through a key that is no table.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let (tables, key) = path.rsplit_once('.').map_or((None, path), |(tables, key)| (Some(tables), key));
        let mut table = &mut self.root;
        for name in tables.iter().flat_map(|tables| tables.split('.')) {
            let next = table.entry(name).or_insert_with(|| json!({}));
            table = next.as_object_mut().unwrap_or_else(|| panic!("'{name}' in '{path}' is no table"));
        }
        table.insert(key.to_owned(), value.into());
        self
    }

    /// The same with a component, and its own keys. The plugin is named by its file in [`crate::binary::plugin_dir`]: by its
    /// name alone what lies beside the host's executable would be found first, which may be of an earlier build.
    #[must_use]
    pub fn component(self, role: &str, plugin: &str, config: Value) -> Self {
        let file = plugin_file(plugin);
        let plugin = format!("component.{role}.plugin");
        self.set(&plugin, file.display().to_string()).set(&format!("component.{role}.config"), config)
    }

    /// The same with a component that is linked into the program, by the name of its crate.
    #[must_use]
    pub fn linked(self, role: &str, package: &str, config: Value) -> Self {
        self.set(&format!("component.{role}.plugin"), package).set(&format!("component.{role}.config"), config)
    }

    /// The same with a probe in that role.
    #[must_use]
    pub fn probe(self, role: &str, config: Value) -> Self {
        self.component(role, "probe_plugin", config)
    }

    /// The time to live of its sessions.
    ///
    /// # Panics
    ///
    /// Where it is not set to whole seconds, such as `2s`.
    pub fn ttl(&self) -> std::time::Duration {
        let ttl = self.root.get("session").and_then(|session| session["ttl"].as_str()).expect("session.ttl is set");
        let seconds = ttl.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).expect("whole seconds");
        std::time::Duration::from_secs(seconds)
    }

    /// The roles of its components.
    pub fn roles(&self) -> Vec<String> {
        let components = self.root.get("component").and_then(Value::as_object);
        components.map(|components| components.keys().cloned().collect()).unwrap_or_default()
    }

    /// As TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.root).expect("JSON without null is TOML")
    }

    /// Writes it.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.to_toml()).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}
