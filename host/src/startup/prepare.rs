//! Before anything is registered or dialled: the plugins are opened and their configuration is checked.
//!
//! All refusals are told together. `componenthost check` does exactly this and no more.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use plugin_api::export::Plugin;
use plugin_api::identity::Role;

use crate::cli::check::Verdict;
use crate::config::{ComponentConfig, Config};
use crate::lifecycle::Lifecycle;
use crate::plugin::{Library, OpenError};
use crate::supervise::Member;

/// The folder of a host's private copies of plugins, below its state directory.
const COPIES: &str = "plugins";

/// The number of the first loaded copy in a host process.
const FIRST_GENERATION: u64 = 1;

/// Components that cannot be started as they are configured; all of them.
#[derive(Debug)]
pub struct Refused(pub Vec<RefusedComponent>);

/// One of them.
#[derive(Debug)]
pub struct RefusedComponent {
    /// Its role.
    pub role: Role,
    /// Why.
    pub why: Why,
}

/// Why a component cannot be started as it is configured.
#[derive(Debug)]
pub enum Why {
    /// Its plugin was not opened.
    Plugin(OpenError),
    /// Its own configuration has mistakes: (key, text) each.
    Config(Vec<(String, String)>),
}

/// Opens the plugins of all components. Those in `linked` are part of this binary and go before files.
///
/// # Errors
///
/// [`Refused`], with every component that was refused.
///
/// # Cancel safety
///
/// What was opened stays open, unused.
pub async fn open_all(config: &Config, state_dir: &Path, linked: &[Plugin]) -> Result<Vec<Arc<Member>>, Refused> {
    let copies = state_dir.join(COPIES);
    // At the same time: each may take its while, in a process that looks at it first.
    let opened = config
        .component
        .iter()
        .map(async |(role, component)| (role, component, open(config, role, component, &copies, linked).await));
    let (mut members, mut refused) = (Vec::new(), Vec::new());
    for (role, component, opened) in futures_util::future::join_all(opened).await {
        match opened {
            Ok(library) => {
                let lifecycle = Lifecycle::new(FIRST_GENERATION);
                members.push(Arc::new(Member::new(role.clone(), component.clone(), library, lifecycle)));
            }
            Err(why) => refused.push(RefusedComponent { role: role.clone(), why }),
        }
    }
    if refused.is_empty() { Ok(members) } else { Err(Refused(refused)) }
}

async fn open(
    config: &Config,
    role: &Role,
    component: &ComponentConfig,
    copies: &Path,
    linked: &[Plugin],
) -> Result<Library, Why> {
    let name = component.plugin(role);
    let library = match linked.iter().find(|plugin| plugin.package == name) {
        Some(plugin) => Library::linked(plugin).map_err(Why::Plugin)?,
        None => {
            let allowed = component.allowed(role);
            Library::open(name, &config.plugins, &allowed, copies, FIRST_GENERATION).await.map_err(Why::Plugin)?
        }
    };
    let mistakes = library
        .check_config(&component.config_toml())
        .map_err(|error| Why::Config(vec![(String::new(), error.to_string())]))?;
    if mistakes.is_empty() {
        return Ok(library);
    }
    Err(Why::Config(mistakes.into_iter().map(|mistake| (mistake.key, mistake.text)).collect()))
}

impl Refused {
    /// Are there mistakes in the components' own configuration, and nothing else?
    pub fn is_of_configuration(&self) -> bool {
        self.0.iter().all(|refused| matches!(refused.why, Why::Config(_)))
    }
}

/// What the gate and the components themselves say of a configuration; nothing is started.
///
/// # Cancel safety
///
/// What was opened stays open, unused.
pub async fn check_all(config: &Config) -> Vec<(Role, Verdict)> {
    let copies = config.host.directories().state.join(COPIES);
    let mut verdicts = Vec::new();
    for (role, component) in &config.component {
        let verdict: Verdict = match open(config, role, component, &copies, &[]).await {
            Ok(library) => look_at(role, component, &library),
            Err(why) => Err(Refused(vec![RefusedComponent { role: role.clone(), why }]).into()),
        };
        verdicts.push((role.clone(), verdict));
    }
    verdicts
}

/// Beyond what a start does before its first step: a component is made, to compare its role and version.
fn look_at(role: &Role, component: &ComponentConfig, library: &Library) -> Verdict {
    let descriptor = library.describe(role, &component.config_toml())?;
    let path = library.origin().map(|origin| origin.path.clone()).unwrap_or_default();
    let version = descriptor.version.unwrap_or(semver::Version::new(0, 0, 0));
    component.allowed(role).check(&path, descriptor.role.as_ref(), &version)?;
    let package = &library.fingerprint().package;
    Ok(match library.origin() {
        Some(origin) => format!("{package} {version}, {}, sha256 {}", origin.path.display(), origin.sha256),
        None => format!("{package} {version}, linked into this program"),
    })
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for RefusedComponent { role, why } in &self.0 {
            match why {
                Why::Plugin(error) => {
                    let line = if first { "" } else { "\n" };
                    write!(formatter, "{line}component.{role}: {}", plugin_api::error::chain(error))?;
                    first = false;
                }
                Why::Config(mistakes) => {
                    for (key, text) in mistakes {
                        let line = if first { "" } else { "\n" };
                        let dot = if key.is_empty() { "" } else { "." };
                        write!(formatter, "{line}component.{role}.config{dot}{key}: {text}")?;
                        first = false;
                    }
                }
            }
        }
        Ok(())
    }
}
