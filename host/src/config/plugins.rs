//! `[plugins]`: where components' code is found.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where plugins are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// Directories that are looked through after the executable's own, which comes first: what was built or installed
    /// together belongs together.
    pub dirs: Vec<PathBuf>,
}

impl PluginsConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let empty = self.dirs.iter().any(|dir| dir.as_os_str().is_empty());
        if empty { vec![("dirs", "expected directories, found \"\"".to_owned())] } else { Vec::new() }
    }
}
