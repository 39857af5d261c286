//! Before anything is registered or dialled: the plugins are opened and their configuration is checked.
//!
//! All refusals are told together. `componenthost check` does exactly this and no more.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugin_api::border::v1::component::LifeError;
use plugin_api::export::Plugin;
use plugin_api::identity::Role;

use crate::cli::check::Verdict;
use crate::config::{ComponentConfig, Config, Mistake, Place, Problem};
use crate::lifecycle::Lifecycle;
use crate::plugin::{Library, OpenError};
use crate::supervise::Member;

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
    /// It cannot be made of its configuration.
    Component(LifeError),
    /// Its own configuration has these mistakes.
    Config(Vec<Mistake>),
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
pub async fn open_all(config: &Config, linked: &[Plugin]) -> Result<Vec<Arc<Member>>, Refused> {
    let copies = config.copies();
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
        Some(plugin) => Library::linked(plugin, FIRST_GENERATION).map_err(Why::Plugin)?,
        None => {
            let allowed = component.allowed(role);
            Library::open(name, &config.plugins, &allowed, copies, FIRST_GENERATION).await.map_err(Why::Plugin)?
        }
    };
    let mistake = |key: &str, text: String| mistake(config, role, key, text);
    let mistakes = library
        .check_config(&component.config_toml())
        .map_err(|error| Why::Config(vec![mistake("", error.to_string())]))?;
    if mistakes.is_empty() {
        return Ok(library);
    }
    Err(Why::Config(mistakes.into_iter().map(|found| mistake(&found.key, found.text)).collect()))
}

/// A mistake that the component itself has found, with the place where the user wrote it.
fn mistake(config: &Config, role: &Role, key: &str, text: String) -> Mistake {
    let dot = if key.is_empty() { "" } else { "." };
    let key = format!("component.{role}.config{dot}{key}");
    // Without a place the whole configuration was made by code, as in a test.
    let place = config.places.of(&key).cloned().unwrap_or_else(|| Place::File { path: PathBuf::new(), line: None });
    Mistake { place, key, problem: Problem::Value(text) }
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
pub async fn check_all(config: &Config, linked: &[Plugin]) -> Vec<(Role, Verdict)> {
    let copies = config.copies();
    let mut verdicts = Vec::new();
    for (role, component) in &config.component {
        let opened = open(config, role, component, &copies, linked).await;
        let fits = opened.and_then(|library| fits(&library, role, component).map(|()| library));
        let verdict = match fits {
            Ok(library) => Verdict::Fits(describe(&library)),
            Err(why) => {
                let refused = Refused(vec![RefusedComponent { role: role.clone(), why }]);
                if refused.is_of_configuration() {
                    Verdict::Mistaken(refused.into())
                } else {
                    Verdict::Refused(refused.into())
                }
            }
        };
        verdicts.push((role.clone(), verdict));
    }
    verdicts
}

/// Role and version are compared in step 1 of a start, of the component that was made then. Here one is made for this alone.
fn fits(library: &Library, role: &Role, component: &ComponentConfig) -> Result<(), Why> {
    let descriptor = library.descriptor(role, &component.config_toml()).map_err(Why::Component)?;
    let path = library.origin().map(|origin| origin.path.clone()).unwrap_or_default();
    let version = descriptor.version.unwrap_or(semver::Version::new(0, 0, 0));
    let allowed = component.allowed(role).check(&path, descriptor.role.as_ref(), &version);
    allowed.map_err(|error| Why::Plugin(error.into()))
}

fn describe(library: &Library) -> String {
    let fingerprint = library.fingerprint();
    let built = format!("{} {}", fingerprint.package, fingerprint.version);
    match library.origin() {
        Some(origin) => format!("{built}, {}, sha256 {}", origin.path.display(), origin.sha256),
        None => format!("{built}, linked into this program"),
    }
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
                Why::Component(error) => {
                    let line = if first { "" } else { "\n" };
                    write!(formatter, "{line}component.{role}: its constructor: {}", plugin_api::error::chain(error))?;
                    first = false;
                }
                Why::Config(mistakes) => {
                    for mistake in mistakes {
                        let line = if first { "" } else { "\n" };
                        write!(formatter, "{line}{mistake}")?;
                        first = false;
                    }
                }
            }
        }
        Ok(())
    }
}
