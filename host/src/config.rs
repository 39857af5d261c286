//! The configuration: the sum of the parts' own `…Config`s, in three layers (defaults, the file, the environment).
//!
//! Each section is read on its own, and in it each key that the user gave is tried alone over the defaults, so that **all**
//! mistakes are reported together, each with its place. To add a section, add its line to `sections!` below; to know a
//! key's meaning, look at its part. What a component's own keys mean is not known here: `[component.<role>.config]` is
//! handed on as it is.
//!
//! Relative paths, in the file as in the environment, are relative to the working directory of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use plugin_api::identity::Role;

mod cluster;
mod component;
mod host;
mod layers;
mod mistake;
mod nearest;
pub mod optional;
mod section;
mod server;
mod shutdown;
mod supervision;
mod swap;
mod variable;

pub use cluster::ClusterConfig;
pub use component::ComponentConfig;
pub use host::{Directories, HostConfig};
pub use mistake::{Mistake, Mistakes, Place, Places, Problem};
pub use server::ServerConfig;
pub use shutdown::ShutdownConfig;
pub use supervision::SupervisionConfig;
pub use swap::SwapConfig;

use crate::admin::AdminConfig;
use crate::connections::ConnectionsConfig;
use crate::discovery::DiscoveryConfig;
use crate::etcd::EtcdConfig;
use crate::plugin::gate::PluginsConfig;
use crate::session::SessionConfig;
use crate::telemetry::TelemetryConfig;
use crate::tls::TlsConfig;
use crate::tls::config::beyond_this_machine;
use layers::Layers;
use section::Section;

/// The exit code for a command line or a configuration that cannot be used (`EX_USAGE` of `sysexits.h`).
pub const EXIT_CODE: u8 = 64;

/// The variable that names the configuration's file where `--config` does not; the only one of the prefix that is no key.
pub const FILE_VARIABLE: &str = "COMPONENTHOST_CONFIG";

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident: $config:ty,)*) => {
        /// All that a user can configure.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
        pub struct Config {
            $($(#[$doc])* pub $name: $config,)*
            /// `[component.<role>]`: the components that this host runs.
            pub component: BTreeMap<Role, ComponentConfig>,
            /// Where the user wrote what lies below `component`, for mistakes that only a component itself can find.
            #[serde(skip)]
            pub places: Places,
        }

        impl Config {
            /// The names of all sections but `component`.
            const SECTIONS: &[&str] = &[$(stringify!($name),)*];

            fn read_sections(layers: &Layers, mistakes: &mut Vec<Mistake>) -> Self {
                Self {
                    $($name: layers.read::<$config>(stringify!($name), mistakes),)*
                    component: BTreeMap::new(),
                    places: layers.places("component"),
                }
            }
        }

        $(impl Section for $config {
            fn mistakes(&self) -> Vec<(&'static str, String)> {
                // The inherent method of the same name, which goes before the trait's.
                <$config>::mistakes(self)
            }
        })*
    };
}

sections! {
    /// `[cluster]`: which cluster this host belongs to.
    cluster: ClusterConfig,
    /// `[etcd]`: where the registry is.
    etcd: EtcdConfig,
    /// `[session]`: how this host's own registration is kept.
    session: SessionConfig,
    /// `[discovery]`: how the sessions of peers are followed.
    discovery: DiscoveryConfig,
    /// `[connections]`: how peers are dialled, and for how long calls wait.
    connections: ConnectionsConfig,
    /// `[tls]`: TLS between hosts.
    tls: TlsConfig,
    /// `[server]`: the listener that serves the components.
    server: ServerConfig,
    /// `[host]`: files and labels of this process.
    host: HostConfig,
    /// `[plugins]`: where components' code is found.
    plugins: PluginsConfig,
    /// `[supervision]`: how a failed component is started again.
    supervision: SupervisionConfig,
    /// `[swap]`: how long the phases of a swap may take.
    swap: SwapConfig,
    /// `[shutdown]`: how long a stop may take.
    shutdown: ShutdownConfig,
    /// `[admin]`: the read-only HTTP answers.
    admin: AdminConfig,
    /// `[telemetry]`: the log.
    telemetry: TelemetryConfig,
}

impl Section for ComponentConfig {
    fn mistakes(&self) -> Vec<(&'static str, String)> {
        ComponentConfig::mistakes(self)
    }
}

impl Config {
    /// The folder of this host's private copies of plugins.
    pub fn copies(&self) -> std::path::PathBuf {
        self.host.directories().state.join("plugins")
    }

    /// Reads the file and the process's environment.
    ///
    /// # Errors
    ///
    /// All mistakes in both.
    pub fn load(file: &Path) -> Result<Self, Mistakes> {
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Self::load_with(file, variables)
    }

    /// The same with an environment that is given.
    ///
    /// # Errors
    ///
    /// All mistakes in both.
    pub fn load_with(file: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Mistakes> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let place = Place::File { path: file.to_owned(), line: None };
            Mistakes(vec![Mistake { place, key: String::new(), problem: Problem::Unreadable(error.to_string()) }])
        })?;
        Self::parse(file, &text, variables)
    }

    /// Reads a text as if it were in `file`.
    ///
    /// # Errors
    ///
    /// All mistakes in the text and in the variables. Where the text is not TOML, only that.
    pub fn parse(
        file: &Path,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        let layers = Layers::new(file, text, variables).map_err(Mistakes)?;
        let mut mistakes = layers.unknown_sections(Self::SECTIONS);
        let mut config = Self::read_sections(&layers, &mut mistakes);
        config.component = component::read_all(&layers, &mut mistakes);
        // Values that are wrong have given way to their defaults: what is said of the whole would be of no use yet.
        if mistakes.is_empty() {
            let whole = config.mistakes_of_the_whole();
            mistakes.extend(whole.into_iter().map(|(key, text)| Mistake {
                place: layers.place_of(&key),
                key,
                problem: Problem::Value(text),
            }));
        }
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        config.etcd.reach_embedded();
        Ok(config)
    }

    /// The cluster's name: `cluster.name`, or else `etcd.root_path`.
    pub fn cluster_name(&self) -> &str {
        if self.cluster.name.is_empty() { &self.etcd.root_path } else { &self.cluster.name }
    }

    /// The roles of this host, in alphabetical order.
    pub fn roles(&self) -> BTreeSet<Role> {
        self.component.keys().cloned().collect()
    }

    /// What no section can know alone.
    fn mistakes_of_the_whole(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        if self.component.is_empty() {
            let text =
                "no component: a host needs at least one section [component.<role>], such as [component.rootcoord]";
            mistakes.push(("component".to_owned(), text.to_owned()));
        }
        for (role, component) in &self.component {
            let parts = [self.shutdown.drain, component.deactivate_timeout, component.stop_timeout];
            let needed = parts.into_iter().fold(self.shutdown.grace, Duration::saturating_add);
            if needed > self.shutdown.limit {
                mistakes.push(("shutdown.limit".to_owned(), too_short(self.shutdown.limit, needed, role)));
            }
        }
        mistakes.extend(self.mistakes_in_security());
        mistakes
    }

    /// Plain text stays on this machine unless the user says otherwise; a certificate is good for all roles of the host.
    fn mistakes_in_security(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        if !self.tls.is_set() && !self.tls.plain_text {
            let (listen, advertise) = (self.server.listen.to_string(), self.server.advertise.clone());
            let named = [("server.listen", Some(listen)), ("server.advertise", advertise)];
            let beyond = named.into_iter().filter_map(|(key, address)| Some((key, beyond_this_machine(&address?)?)));
            mistakes.extend(beyond.map(|(key, text)| (key.to_owned(), text)));
        }
        let nameless = self.tls.mistake_in_names(self.roles());
        mistakes.extend(nameless.map(|text| ("tls.cert".to_owned(), text)));
        mistakes
    }
}

fn too_short(limit: Duration, needed: Duration, role: &Role) -> String {
    format!(
        "expected at least {} (shutdown.grace + shutdown.drain + component.{role}.deactivate_timeout + \
         component.{role}.stop_timeout), found {}",
        humantime::format_duration(needed),
        humantime::format_duration(limit)
    )
}

#[cfg(test)]
mod tests;
