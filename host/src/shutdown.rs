//! The way back: from a signal to the exit, in order and within one limit.
//!
//! Peers are told first, while everything still works; then new calls are refused, running ones drained, components ended
//! (dependents before what they depend on), sessions given up, links closed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_api::component::Deactivation;
use plugin_api::descriptor::Dependency;
use plugin_api::identity::Role;
use plugin_api::refusal::Reason;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::config::ShutdownConfig;
use crate::lifecycle::State;
use crate::plugin::Traces;
use crate::session::{Session, SessionStatus};
use crate::startup::Parts;
use crate::startup::host::{Host, Running};
use crate::supervise::tenure::Tenure;
use crate::supervise::{Alive, Member, clear_away, deactivate, give_up_session};

/// How long an owner may take to give its component up before the others go on without it. All that it does waits for the
/// stop as well, but for the end of a component that has failed.
const GIVE_UP: Duration = Duration::from_secs(1);

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything ended by itself.
    Clean,
    /// The limit was over first.
    AtTheLimit,
}

/// What of the limit is kept for giving sessions up when components hang.
const RESERVE: Duration = Duration::from_secs(2);

/// How long calls that were cut may take to end.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// How long the last answers may take on their way out.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// Stops a host within `shutdown.limit`.
///
/// # Cancel safety
///
/// What is left is dropped: sessions run out by themselves.
pub async fn stop(host: Host) -> Stopped {
    let config = host.parts.config.shutdown.clone();
    let began = Instant::now();
    let limit = humantime::format_duration(config.limit);
    tracing::info!(%limit, "stopping");
    match tokio::time::timeout(config.limit, in_order(host, &config)).await {
        Ok(stopped) => {
            tracing::info!(took_ms = began.elapsed().as_millis(), "stopped");
            stopped
        }
        Err(_) => {
            tracing::error!(%limit, "not everything has ended within the limit (shutdown.limit): leaving");
            Stopped::AtTheLimit
        }
    }
}

async fn in_order(host: Host, config: &ShutdownConfig) -> Stopped {
    // Ids are guarded to the end.
    let Host { parts, members, drain, mut listener, admin, ids: _ids, control: _control, reload: _reload, embedded } =
        host;
    let all: Vec<Arc<Member>> = members.iter().map(|running| running.member.clone()).collect();
    let reserve = RESERVE.min(config.limit / 4);
    let mut ended = Box::pin(async {
        let (mut ending, late) = take_over(members).await;
        mark_stopping(&sessions_of(&all)).await;
        let_work_move(&ending, &parts.workers, config.grace).await;
        refuse_new_calls(&ending);
        drain.cancel();
        let way_made = make_way(&mut ending, &parts, config);
        tokio::join!(way_made, drain_calls(&ending, config.drain));
        end_components(ending, &parts, config).await;
        end_late(late, &parts, config).await;
    });
    let stopped = match tokio::time::timeout(config.limit - reserve, &mut ended).await {
        Ok(()) => Stopped::Clean,
        Err(_) => {
            tracing::error!("components have not ended in time: the sessions that are left are given up all the same");
            let sessions = sessions_of(&all);
            // It owns them, or has tasks that do: with the last of these a session would end without being given up.
            drop(ended);
            revoke_all(&sessions, reserve).await;
            Stopped::AtTheLimit
        }
    };
    // A call has ended when its answer was handed to the connection, which may still have to send it. One that has failed
    // before sends nothing.
    if stopped == Stopped::Clean && !listener.is_finished() {
        // Whoever only listens, to the health of a service, keeps its connection: it is cut.
        let _ = tokio::time::timeout(LAST_ANSWERS, &mut listener).await;
    }
    // Connections without a call are closed by now; what is left is cut.
    drop(listener);
    parts.connections.stop().await;
    parts.discovery.stop().await;
    // Nobody asks it any more: all sessions have been given up.
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    admin.stop.cancel();
    let socket = async { if let Some(socket) = admin.socket { socket.await } else { Ok(()) } };
    let (tcp, socket) = tokio::join!(admin.task, socket);
    for error in [tcp.err(), socket.err()].into_iter().flatten() {
        tracing::warn!(%error, "an admin listener did not end well");
    }
    stopped
}

fn sessions_of(members: &[Arc<Member>]) -> Vec<Arc<Session>> {
    members.iter().filter_map(|member| member.shown().session.upgrade()).collect()
}

/// Peers must not wait for a lease to run out because a component of ours hangs. Without its session it writes nothing more.
async fn revoke_all(sessions: &[Arc<Session>], limit: Duration) {
    // Half of it: the process has to leave in good order, too.
    futures_util::future::join_all(sessions.iter().map(|session| session.revoke(limit / 2))).await;
}

/// A component that is being ended.
struct Ending {
    member: Arc<Member>,
    alive: Alive,
}

/// A component whose owner is in the midst of ending it after a failure, or of a method that keeps its thread.
struct Late {
    member: Arc<Member>,
    owner: AbortOnDropHandle<Alive>,
}

/// All components stop, and their owners give them up. Nobody waits for the late ones: what they have that could move or drain
/// does so at their own end.
async fn take_over(members: Vec<Running>) -> (Vec<Ending>, Vec<Late>) {
    for running in &members {
        // One that does not serve yet, or no more, is not to begin with it now.
        let draining = running.member.lifecycle.status().state != State::Healthy;
        if let Err(forbidden) = running.member.lifecycle.transition(State::Stopping { draining }) {
            tracing::debug!(role = %running.member.role, %forbidden, "stopping already");
        }
        running.stop.cancel();
    }
    let (mut ending, mut late) = (Vec::new(), Vec::new());
    let given_up_by = Instant::now() + GIVE_UP;
    for Running { member, mut task, .. } in members {
        match tokio::time::timeout_at(given_up_by.into(), &mut task).await {
            Ok(Ok(alive)) => ending.push(Ending { member, alive }),
            Ok(Err(error)) => owner_failed(&member, &error),
            Err(_) => late.push(Late { member, owner: task }),
        }
    }
    (ending, late)
}

fn owner_failed(member: &Member, error: &JoinError) {
    tracing::error!(role = %member.role, %error, "the component's owner has failed");
}

/// Peers are told by etcd, before anything stops working.
async fn mark_stopping(sessions: &[Arc<Session>]) {
    // Where its key was deleted, and stays so, nobody is left who could be told.
    let there = sessions.iter().filter(|session| !matches!(*session.status().borrow(), SessionStatus::Deleted { .. }));
    let marked = there.map(async |session| {
        if let Err(error) = session.mark_stopping().await {
            tracing::warn!(error = plugin_api::error::chain(&error), "peers could not be told of the stop");
        }
    });
    futures_util::future::join_all(marked).await;
}

/// Components let their work move elsewhere, while they still serve.
async fn let_work_move(ending: &[Ending], workers: &Handle, grace: Duration) {
    let moving = ending.iter().filter(|ending| ending.alive.is_activated()).filter_map(|ending| {
        let generation = ending.alive.life.generation.clone()?;
        let role = &ending.member.role;
        // A task of its own: one that keeps its thread holds up neither the others nor the grace's clock.
        let moving = workers.spawn(async move { generation.component().on_stopping().await });
        let moving = AbortOnDropHandle::new(moving);
        Some(async move {
            match tokio::time::timeout(grace, moving).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::warn!(%role, %error, "on_stopping failed"),
                Ok(Err(error)) => tracing::error!(%role, %error, "on_stopping could not be awaited"),
                Err(_) => {
                    let grace = humantime::format_duration(grace);
                    tracing::warn!(%role, "its work has not moved elsewhere within {grace} (shutdown.grace)");
                }
            }
        })
    });
    futures_util::future::join_all(moving).await;
}

fn refuse_new_calls(ending: &[Ending]) {
    for Ending { member, .. } in ending {
        if let Err(forbidden) = member.lifecycle.transition(State::Stopping { draining: true }) {
            tracing::debug!(role = %member.role, %forbidden, "draining already");
        }
    }
}

/// Where another stands by for an exclusive component, that is deactivated and its key given up now: a successor must not wait
/// for calls that are drained.
fn make_way(ending: &mut [Ending], parts: &Parts, config: &ShutdownConfig) -> impl Future<Output = ()> + use<> {
    let mut ways = Vec::new();
    for Ending { member, alive } in ending {
        if !alive.has_rival(parts.own.server_id) {
            continue;
        }
        let (Some(generation), Some(session)) = (alive.life.generation.clone(), alive.session.take()) else { continue };
        let activated = alive.tenure.as_mut().is_some_and(Tenure::end);
        let permit = alive.life.metadata.as_ref().map(|metadata| metadata.permit().clone());
        let (role, limit, revoke_limit) = (member.role.clone(), member.config.deactivate_timeout, config.limit);
        tracing::info!(%role, "another stands by: the session is given up before running calls have ended");
        // A task of its own: one that keeps its thread holds up neither the others nor the limit's clock.
        ways.push(AbortOnDropHandle::new(parts.workers.spawn(async move {
            if activated && let Err(error) = deactivate(&generation, limit, Deactivation::Stop).await {
                tracing::warn!(%role, %error, "the component did not end well");
            }
            if let Some(permit) = permit {
                permit.withdraw();
            }
            session.revoke(revoke_limit).await;
        })));
    }
    async move {
        for way in futures_util::future::join_all(ways).await {
            if let Err(error) = way {
                tracing::error!(%error, "making way for another has failed");
            }
        }
    }
}

/// Running calls end, or are cut at the limit; those of a generation that was replaced too.
async fn drain_calls(ending: &[Ending], limit: Duration) {
    let all: Vec<Traces> = ending.iter().flat_map(|ending| generations(&ending.alive)).collect();
    let drained = || futures_util::future::join_all(all.iter().map(Traces::no_calls));
    let running = || all.iter().map(Traces::calls).sum::<usize>();
    if tokio::time::timeout(limit, drained()).await.is_err() {
        let limit = humantime::format_duration(limit);
        tracing::warn!(running = running(), "calls still run after {limit} (shutdown.drain): they are cut");
        for Ending { alive, .. } in ending {
            alive.life.cut.cut(Reason::SessionStopping, "the host is stopping, and the drain's limit is over");
            if let Some(retiring) = &alive.retiring {
                retiring.hurry.cancel();
            }
        }
        // No component ends while its calls run, also where their answers are not read.
        if tokio::time::timeout(CUT_LIMIT, drained()).await.is_err() {
            let running = running();
            tracing::warn!(running, "calls still run although they were cut: their component keeps a thread");
        }
    }
}

fn generations(alive: &Alive) -> impl Iterator<Item = Traces> {
    let present = alive.life.generation.as_ref().map(|generation| generation.traces().clone());
    let former = alive.retiring.as_ref().and_then(|retiring| retiring.traces.clone());
    present.into_iter().chain(former)
}

/// Components end, dependents before what they depend on; those that do not depend on one another at the same time.
async fn end_components(mut ending: Vec<Ending>, parts: &Arc<Parts>, config: &ShutdownConfig) {
    while !ending.is_empty() {
        let mut needed = needed(&ending, |_| true);
        if ending.iter().all(|ending| needed.contains(&ending.member.role)) {
            // They depend on one another in a circle: it is opened where one can do without the other.
            needed = self::needed(&ending, |dependency| dependency.required);
        }
        let (mut later, mut now): (Vec<_>, Vec<_>) =
            ending.into_iter().partition(|ending| needed.contains(&ending.member.role));
        if now.is_empty() {
            // No order is better than another.
            now = std::mem::take(&mut later);
        }
        // In tasks of their own: one that keeps its thread holds up neither the others nor the limit's clock.
        let ends = now.into_iter().map(|ending| {
            let role = ending.member.role.clone();
            let end = AbortOnDropHandle::new(parts.workers.spawn(end(ending, parts.clone(), config.limit)));
            async move {
                if let Err(error) = end.await {
                    tracing::error!(%role, %error, "ending the component has failed");
                }
            }
        });
        futures_util::future::join_all(ends).await;
        ending = later;
    }
}

/// Components whose owners took their time end last.
async fn end_late(late: Vec<Late>, parts: &Arc<Parts>, config: &ShutdownConfig) {
    let ends = late.into_iter().map(async |Late { member, owner }| match owner.await {
        Ok(alive) => {
            // One that was just swapped may serve still.
            let mut ending = vec![Ending { member, alive }];
            let_work_move(&ending, &parts.workers, config.grace).await;
            refuse_new_calls(&ending);
            let way_made = make_way(&mut ending, parts, config);
            tokio::join!(way_made, drain_calls(&ending, config.drain));
            end_components(ending, parts, config).await;
        }
        Err(error) => owner_failed(&member, &error),
    });
    futures_util::future::join_all(ends).await;
}

/// The roles that others of these depend on.
fn needed(ending: &[Ending], counts: impl Fn(&Dependency) -> bool) -> BTreeSet<Role> {
    let mut needed = BTreeSet::new();
    for Ending { member, alive } in ending {
        let descriptor = alive.life.generation.as_ref().map(|generation| generation.descriptor());
        let dependencies = descriptor.map(|descriptor| descriptor.dependencies.as_slice()).unwrap_or_default();
        let others = dependencies.iter().filter(|dependency| dependency.role != member.role && counts(dependency));
        needed.extend(others.map(|dependency| dependency.role.clone()));
    }
    needed
}

async fn end(mut ending: Ending, parts: Arc<Parts>, revoke_limit: Duration) {
    clear_away(&ending.member, &parts.served, &mut ending.alive, Deactivation::Stop).await;
    give_up_session(&mut ending.alive, revoke_limit).await;
    tracing::info!(role = %ending.member.role, "ended");
}
