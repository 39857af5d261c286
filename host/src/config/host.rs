//! `[host]`: files and labels of this process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Files and labels of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// The directory of the state files. Empty is `/var/lib/componenthost` for root, else `$XDG_STATE_HOME/componenthost`
    /// or `~/.local/state/componenthost`.
    pub state_dir: PathBuf,
    /// The directory of the admin sockets. Empty is `/run/componenthost` for root, else `$XDG_RUNTIME_DIR/componenthost`
    /// or `run` in the state directory.
    pub run_dir: PathBuf,
    /// Free labels that are registered with each session, for people and for components to choose by.
    pub labels: BTreeMap<String, String>,
}

/// The directories that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// State files.
    pub state: PathBuf,
    /// Admin sockets.
    pub run: PathBuf,
}

impl HostConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The directories of this process's user.
    pub fn directories(&self) -> Directories {
        self.directories_for(rustix::process::geteuid().is_root(), |name| std::env::var_os(name).map(PathBuf::from))
    }

    fn directories_for(&self, root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> Directories {
        // The XDG specification: a relative path in such a variable is invalid and is ignored.
        let variable = |name| variable(name).filter(|path| path.is_absolute());
        let in_home = || variable("HOME").map(|home| home.join(".local/state"));
        let state = match () {
            () if !self.state_dir.as_os_str().is_empty() => self.state_dir.clone(),
            () if root => PathBuf::from("/var/lib/componenthost"),
            () => match variable("XDG_STATE_HOME").or_else(in_home) {
                Some(base) => base.join("componenthost"),
                None => std::env::temp_dir().join(format!("componenthost-{}", rustix::process::geteuid().as_raw())),
            },
        };
        let run = match () {
            () if !self.run_dir.as_os_str().is_empty() => self.run_dir.clone(),
            () if root => PathBuf::from("/run/componenthost"),
            () => variable("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |base| base.join("componenthost")),
        };
        Directories { state, run }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(config: &HostConfig, root: bool, variables: &[(&str, &str)]) -> (String, String) {
        let found = config.directories_for(root, |name| {
            variables.iter().find(|(each, _)| *each == name).map(|(_, value)| PathBuf::from(value))
        });
        (found.state.display().to_string(), found.run.display().to_string())
    }

    #[test]
    fn directories_are_chosen_by_user() {
        let config = HostConfig::default();
        let pair = |state: &str, run: &str| (state.to_owned(), run.to_owned());
        assert_eq!(directories(&config, true, &[]), pair("/var/lib/componenthost", "/run/componenthost"));
        let home = [("HOME", "/home/a")];
        let below = "/home/a/.local/state/componenthost";
        assert_eq!(directories(&config, false, &home), pair(below, &format!("{below}/run")));
        let xdg = [("HOME", "/home/a"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")];
        assert_eq!(directories(&config, false, &xdg), pair("/s/componenthost", "/r/componenthost"));
        let relative = [("HOME", "/home/a"), ("XDG_STATE_HOME", "s")];
        assert_eq!(directories(&config, false, &relative).0, below);
        let given = HostConfig { state_dir: "a".into(), run_dir: "b".into(), ..HostConfig::default() };
        assert_eq!(directories(&given, true, &xdg), pair("a", "b"));
    }
}
