//! The start: first what a host is made of, then the five steps of each component, top to bottom.
//!
//! The composition root: the only file that knows every part. Nothing here is fetched from a global; each step takes what
//! the step before returned, so that a wrong order does not compile.

mod changed;
mod control;
mod embedded;
mod failed;
mod gather;
pub mod host;
mod ids;
mod news;
mod parts;
pub mod prepare;
mod register;
mod view;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use plugin_api::border::v1::component::{LifeError, Started};
use plugin_api::descriptor::{Dependency, Descriptor, Kind, WaitPolicy};
use plugin_api::identity::{Identity, Role};

pub use failed::{StepError, StepFailed};
pub use parts::{Address, Parts};

use crate::lifecycle::{Forbidden, State, Step, StepReport};
use crate::plugin::{Generation, Library};
use crate::serve::{Gated, Serving};
use crate::supervise::driver::{self, Followed, Standing};
use crate::supervise::generations::Stand;
use crate::supervise::{Alive, Life, Member, within};

/// The five steps of one component. What they have made is in `alive`, also after a failure.
///
/// # Errors
///
/// [`StepFailed`], which names the step.
///
/// # Cancel safety
///
/// What was made is in `alive`.
pub async fn five_steps(member: &Member, parts: &Parts, alive: &mut Alive) -> Result<(), StepFailed> {
    let begun = Start { member, parts, alive, done: () };
    let initialized = begun.step(Step::Initializing, initialize).await?;
    let coordinators_linked = initialized.step(Step::Coordinators, link_coordinators).await?;
    let started = coordinators_linked.step(Step::Nodes, link_nodes_and_start).await?;
    let registered = started.step(Step::Register, register_and_activate).await?;
    become_healthy(registered)
}

/// A start that has come as far as `Done` says.
struct Start<'a, Done> {
    member: &'a Member,
    parts: &'a Parts,
    alive: &'a mut Alive,
    done: Done,
}

/// What a step gives: the start, one step further, and what it did, for people.
type Stepped<'a, Done> = Result<(Start<'a, Done>, String), StepError>;

/// After step 1: the component is made, and has said what it depends on.
struct Initialized {
    generation: Generation,
    dependencies: Vec<Dependency>,
}

/// After step 2.
struct CoordinatorsLinked {
    generation: Generation,
    nodes: Vec<Dependency>,
}

/// After step 3: the component's own start is over too.
struct ComponentStarted {
    generation: Generation,
}

/// After step 4.
struct Registered {
    standing: Standing,
    /// When the last step began.
    began: Instant,
}

impl<'a, Done> Start<'a, Done> {
    /// Makes one step: shown while it runs, reported and logged when it has ended.
    async fn step<Next, F>(self, step: Step, make: F) -> Result<Start<'a, Next>, StepFailed>
    where
        F: AsyncFnOnce(Start<'a, Done>) -> Stepped<'a, Next>,
    {
        let (role, lifecycle) = (&self.member.role, &self.member.lifecycle);
        let began = Instant::now();
        let failed = |source| StepFailed::at(step, source);
        // The first is entered by who begins a start.
        if step != Step::Initializing {
            lifecycle.transition(State::Initializing { step }).map_err(|forbidden| failed(forbidden.into()))?;
        }
        let made = make(self).await;
        let detail = match &made {
            Ok((_, detail)) => detail.clone(),
            Err(error) => plugin_api::error::chain(error),
        };
        let report = StepReport { step, detail, took: began.elapsed(), failed: made.is_err() };
        log(role, &report);
        lifecycle.report(report);
        made.map(|(start, _)| start).map_err(failed)
    }

    fn further<Next>(self, done: Next) -> Start<'a, Next> {
        Start { member: self.member, parts: self.parts, alive: self.alive, done }
    }
}

/// Step 1: the component is made of its configuration, and says what it is.
async fn initialize(start: Start<'_, ()>) -> Stepped<'_, Initialized> {
    let (member, parts) = (start.member, start.parts);
    let (library, life) = (member.library(), &mut start.alive.life);
    let (settings, failures) = (parts.generation_settings(&member.role, life), life.failures.sender());
    life.library = Some(library.clone());
    let generation = Generation::create(&library, &member.config.config_toml(), settings, failures)
        .map_err(|source| StepError::Life { method: "its constructor", source })?;
    life.generation = Some(generation.clone());
    member.generations.made(&library, &generation);
    member.lifecycle.serves(generation.number());
    let descriptor = generation.descriptor().clone();
    member.show_descriptor(descriptor.clone());
    check_allowed(member, &library, &descriptor)?;
    let version = descriptor.version.map(|version| version.to_string()).unwrap_or_default();
    let generation_number = generation.number();
    let what = match descriptor.kind {
        Kind::Coordinator => "a coordinator",
        Kind::Node => "a node",
    };
    let detail = format!(
        "{} {version}, {what}, generation {generation_number}, {} dependencies",
        member.role,
        descriptor.dependencies.len()
    );
    Ok((start.further(Initialized { generation, dependencies: descriptor.dependencies }), detail))
}

/// Role and version must be what the section of the configuration allows.
fn check_allowed(member: &Member, library: &Library, descriptor: &Descriptor) -> Result<(), StepError> {
    let path = library.origin().map(|origin| origin.path.clone()).unwrap_or_default();
    let allowed = member.config.allowed(&member.role);
    let version = descriptor.version.clone().unwrap_or(semver::Version::new(0, 0, 0));
    Ok(allowed.check(&path, descriptor.role.as_ref(), &version)?)
}

/// Step 2: the coordinators that it depends on: followed in etcd, and dialled as soon as they are there.
async fn link_coordinators(start: Start<'_, Initialized>) -> Stepped<'_, CoordinatorsLinked> {
    let (coordinators, nodes): (Vec<_>, Vec<_>) =
        start.done.dependencies.iter().cloned().partition(|dependency| dependency.kind == Kind::Coordinator);
    let detail = link(start.member, start.parts, &coordinators).await;
    let generation = start.done.generation.clone();
    Ok((start.further(CoordinatorsLinked { generation, nodes }), detail))
}

/// Step 3: the nodes that it depends on, each in a task of its own. Then the component builds its services.
async fn link_nodes_and_start(start: Start<'_, CoordinatorsLinked>) -> Stepped<'_, ComponentStarted> {
    let (member, parts) = (start.member, start.parts);
    let mut detail = link(member, parts, &start.done.nodes).await;
    let generation = start.done.generation.clone();
    let began = Instant::now();
    let serving = start_component(member, parts, &mut start.alive.life, &generation)
        .await
        .map_err(|source| StepError::Life { method: "start", source })?;
    let took_ms = tenths(began.elapsed());
    // Writing to a `String` cannot fail.
    let _ = write!(detail, "; started in {took_ms} ms, serves {}", list(&serving.services));
    let certain = start.alive.life.certain(member.config.lease_policy(generation.descriptor()));
    parts.served.begin(&member.role, serving, certain)?;
    member.generations.stands(generation.number(), Stand::Serving);
    Ok((start.further(ComponentStarted { generation }), detail))
}

/// Lets a component start, within its limit; what answers its calls from then on.
///
/// # Errors
///
/// The component's own, or that it took too long.
///
/// # Cancel safety
///
/// The component's `start` is dropped.
pub(crate) async fn start_component(
    member: &Member,
    parts: &Parts,
    life: &mut Life,
    generation: &Generation,
) -> Result<Serving, LifeError> {
    let identity = Identity {
        cluster: parts.own.cluster.clone(),
        role: member.role.clone(),
        server_id: parts.own.server_id,
        address: parts.address.advertised.clone(),
        generation: generation.number(),
    };
    let call = |one: Generation| async move { one.component().start(&identity).await };
    let Started { services, descriptor_sets } = within(generation, member.config.start_timeout, "start", call).await?;
    let serving = Serving {
        generation: generation.clone(),
        services,
        descriptor_sets: Arc::new(descriptor_sets.into_iter().map(|set| set.into_vec()).collect()),
        gated: Gated::new(&generation.descriptor().gated),
        cut: life.cut.clone(),
    };
    life.serving = Some(serving.clone());
    Ok(serving)
}

/// Step 4: its own session, by which others find it, and then its work; or a place behind the one that is active.
async fn register_and_activate(start: Start<'_, ComponentStarted>) -> Stepped<'_, Registered> {
    let (member, parts, alive) = (start.member, start.parts, start.alive);
    let generation = start.done.generation;
    // A session may have been another's since the former life.
    let again = std::mem::replace(&mut alive.again, true);
    let session = register::session(member, parts, alive, &generation).await;
    let standing = driver::first(member, parts, alive, &generation, again, Followed::new(session.clone())).await?;
    let detail = register::describe(&session, &standing);
    let done = Start { member, parts, alive, done: Registered { standing, began: Instant::now() } };
    Ok((done, detail))
}

/// Step 5: it serves, or stands by. State and report change together: who sees Healthy sees five steps.
fn become_healthy(start: Start<'_, Registered>) -> Result<(), StepFailed> {
    let Registered { standing, began } = start.done;
    let (state, detail) = match standing {
        Standing::Active => (State::Healthy, "serving".to_owned()),
        Standing::StandBy { holder } => {
            (State::StandBy { holder: holder.clone() }, format!("standing by for {holder}"))
        }
    };
    let report = StepReport { step: Step::Healthy, detail, took: began.elapsed(), failed: false };
    let Member { role, lifecycle, .. } = start.member;
    let failed = |forbidden: Forbidden| StepFailed::at(Step::Healthy, forbidden.into());
    lifecycle.arrive(state, report.clone()).map_err(failed)?;
    log(role, &report);
    Ok(())
}

fn log(role: &Role, report: &StepReport) {
    let StepReport { step, detail, took, failed } = report;
    let (number, name, took_ms) = (step.number(), step.name(), tenths(*took));
    if *failed {
        tracing::warn!(%role, step = number, name, detail, took_ms, "step {number} of 5 failed");
    } else {
        tracing::info!(%role, step = number, name, detail, took_ms, "step {number} of 5 made");
    }
}

/// Declares dependencies: they are dialled all at once, and nothing is waited for unless one of them says so.
async fn link(member: &Member, parts: &Parts, dependencies: &[Dependency]) -> String {
    for dependency in dependencies {
        let table = {
            let _in_control = parts.control.enter();
            parts.discovery.follow(&dependency.role)
        };
        parts.connections.add_dependency(&member.role, dependency.clone(), table);
    }
    let waits = dependencies.iter().filter(|dependency| dependency.wait != WaitPolicy::No).map(async |dependency| {
        if !parts.connections.wait_ready(&member.role, &dependency.role, dependency.wait).await {
            let (role, awaited, wait) = (&member.role, &dependency.role, dependency.wait);
            tracing::warn!(%role, dependency = %awaited, ?wait, "the wait has run out: the start goes on without it");
        }
    });
    futures_util::future::join_all(waits).await;
    let described: Vec<String> = dependencies.iter().map(|dependency| describe(member, parts, dependency)).collect();
    if described.is_empty() { "none".to_owned() } else { described.join(", ") }
}

/// Declares what another generation of the component depends on beside; the calls of the present one go on.
pub(crate) fn renew_dependencies(member: &Member, parts: &Parts, dependencies: &[Dependency]) {
    for dependency in dependencies {
        let table = {
            let _in_control = parts.control.enter();
            parts.discovery.follow(&dependency.role)
        };
        parts.connections.renew_dependency(&member.role, dependency.clone(), table);
    }
}

/// A dependency as it stands at this moment.
fn describe(member: &Member, parts: &Parts, dependency: &Dependency) -> String {
    let role = &dependency.role;
    match parts.connections.clients(&member.role, role) {
        Ok(peers) if peers.is_empty() => format!("{role}: nobody known yet"),
        Ok(peers) => {
            let peers: Vec<String> =
                peers.iter().map(|peer| format!("{} {}", peer.server_id, peer.link.as_str())).collect();
            format!("{role}: {}", peers.join(", "))
        }
        Err(refusal) => format!("{role}: {}", refusal.message),
    }
}

fn list(services: &[String]) -> String {
    if services.is_empty() { "nothing".to_owned() } else { services.join(", ") }
}

/// Milliseconds with one decimal, for people.
fn tenths(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
