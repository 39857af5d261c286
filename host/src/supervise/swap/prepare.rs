//! Preparing a swap: the new generation is made beside the component, which notices nothing.

use std::path::Path;
use std::sync::Arc;

use plugin_api::border::v1::component::LifeError;
use plugin_api::descriptor::Descriptor;
use plugin_api::error::chain;
use tokio::sync::mpsc;

use super::retire::{self, Retire};
use super::{Candidate, Reporter, SwapError, Turn};
use crate::plugin::gate::{self, GateError};
use crate::plugin::{Generation, GenerationSettings, Library};
use crate::startup::Parts;
use crate::supervise::commands::{Command, Slot};
use crate::supervise::{Life, Member};
use crate::swap::{Outcome, Phase};

/// Makes a candidate and hands it to the component's owner; or says why not.
pub(super) async fn run(member: Arc<Member>, parts: Arc<Parts>, mut reporter: Reporter, turn: Turn) {
    reporter.replaces(member.lifecycle.status().generation);
    reporter.begin(Phase::Prepare);
    let order = reporter.order();
    let life = match candidate(&member, &parts, &order.plugin).await {
        Ok(life) => life,
        Err(error) => {
            let why = chain(&error);
            reporter.failed(why.clone());
            return reporter.finish(Outcome::Refused, why);
        }
    };
    if let Some(generation) = &life.generation {
        let version = generation.descriptor().version.as_ref().map(ToString::to_string).unwrap_or_default();
        let from = life.library.as_ref().and_then(|library| library.origin()).map(|origin| origin.path.display());
        let from = from.map(|path| path.to_string()).unwrap_or_default();
        reporter.made(generation.number());
        reporter.done(format!("generation {}, version {version}, {from}", generation.number()));
    }
    let probation = order.probation.unwrap_or(parts.config.swap.probation);
    reporter.begin(Phase::Wait);
    let note = note(&member, &parts, &life);
    hand_in(&member, &parts, Candidate { life, state: order.state, probation, note, reporter, turn }).await;
}

/// What a host that is started again would do otherwise.
fn note(member: &Member, parts: &Parts, life: &Life) -> String {
    let configured = member.config.plugin(&member.role);
    let found = gate::find(Path::new(configured), &parts.config.plugins.search_dirs());
    let found = found.ok().and_then(|path| path.canonicalize().ok());
    let opened = life.library.as_ref().and_then(|library| library.origin()).map(|origin| origin.path.clone());
    if found == opened {
        return String::new();
    }
    let role = &member.role;
    format!("a host that is started again has the plugin that is configured: component.{role}.plugin is '{configured}'")
}

/// Gives it to the owner, and takes it back where that is busy for too long.
async fn hand_in(member: &Arc<Member>, parts: &Arc<Parts>, candidate: Candidate) {
    let slot = Slot::new(candidate);
    // An owner that has gone takes nothing: then it is taken back at once.
    let is_asked = member.ask(Command::Swap(slot.clone()));
    let limit = parts.config.swap.wait_limit;
    if is_asked {
        slot.taken(limit).await;
    }
    let Some(candidate) = slot.take() else { return };
    let Candidate { life, mut reporter, turn, .. } = *candidate;
    let error = if is_asked {
        SwapError::NotReady { state: member.lifecycle.status().state.code().to_string(), limit }
    } else {
        SwapError::Stopping
    };
    reporter.failed(error.to_string());
    reporter.passing(error.is_passing());
    reporter.finish(Outcome::Refused, error.to_string());
    retire::end(Retire::of(member, parts, life)).await;
    drop(turn);
}

/// Opens the file and makes a component of it.
async fn candidate(member: &Arc<Member>, parts: &Arc<Parts>, plugin: &str) -> Result<Life, SwapError> {
    parts.check_retired(&member.library())?;
    let (role, config) = (&member.role, &member.config);
    let allowed = config.allowed(role);
    let number = member.next_generation();
    let copies = parts.config.copies();
    let library = Arc::new(Library::open(plugin, &parts.config.plugins, &allowed, &copies, number).await?);
    let config_toml = config.config_toml();
    let mut life = Life { library: Some(library.clone()), ..Life::default() };
    let settings = parts.generation_settings(role, &mut life);
    let failures = life.failures.sender();
    let (made, of) = (library.clone(), Arc::clone(member));
    // The author's code: it may hang, and then keeps its thread for ever.
    let making = parts.workers.spawn_blocking(move || make(&of, &made, &config_toml, settings, failures));
    let limit = config.start_timeout;
    let generation = match tokio::time::timeout(limit, making).await {
        Ok(Ok(made)) => made?,
        // It is never aborted, and the border catches the author's panics.
        Ok(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => return Err(SwapError::ConstructorHangs(limit)),
    };
    member.generations.made(&library, &generation);
    let fits = fits(member, &library, &generation);
    life.generation = Some(generation);
    match fits {
        Ok(()) => Ok(life),
        Err(error) => {
            retire::end(Retire::of(member, parts, life)).await;
            Err(error)
        }
    }
}

/// A component of that library, if it takes this configuration.
fn make(
    member: &Member,
    library: &Library,
    config: &str,
    settings: GenerationSettings,
    failures: mpsc::UnboundedSender<LifeError>,
) -> Result<Generation, SwapError> {
    let mistakes = library.check_config(config).map_err(LifeError::Failed);
    let mistakes = mistakes.map_err(|source| SwapError::New { method: "check of its configuration", source })?;
    if !mistakes.is_empty() {
        // Where another component's plugin says what it is without a configuration, that is what is wrong.
        if let Ok(descriptor) = library.descriptor(&member.role, "") {
            is_allowed(member, library, &descriptor)?;
        }
        return Err(SwapError::Config(mistakes));
    }
    let created = Generation::create(library, config, settings, failures);
    created.map_err(|source| SwapError::New { method: "constructor", source })
}

fn is_allowed(member: &Member, library: &Library, new: &Descriptor) -> Result<(), GateError> {
    let path = library.origin().map(|origin| origin.path.clone()).unwrap_or_default();
    let version = new.version.clone().unwrap_or(semver::Version::new(0, 0, 0));
    member.config.allowed(&member.role).check(&path, new.role.as_ref(), &version)
}

/// Can it take the place of the one that serves?
fn fits(member: &Member, library: &Library, generation: &Generation) -> Result<(), SwapError> {
    let new = generation.descriptor();
    is_allowed(member, library, new)?;
    let Some(former) = member.shown().descriptor else { return Ok(()) };
    if new.kind != former.kind {
        return Err(SwapError::Kind { new: new.kind, former: former.kind });
    }
    let policy = |descriptor| member.config.lease_policy(descriptor);
    if policy(new) != policy(&former) {
        let role = member.role.clone();
        return Err(SwapError::LeasePolicy { role, new: policy(new), former: policy(&former) });
    }
    Ok(())
}
