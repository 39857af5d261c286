//! What the admin answers show of this host, made of its parts' watches at each request.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use plugin_api::descriptor::Descriptor;
use plugin_api::identity::Role;
use serde_json::{Value, json};

use super::{Parts, gather};
use crate::admin::{ComponentView, Feed, MissingDependency, Past, PluginView, StepName, StepView, View};
use crate::lifecycle::{State, Status, Step};
use crate::metrics::Family;
use crate::session::SessionView;
use crate::supervise::Member;

/// Everything that is shown.
pub struct HostView {
    members: Vec<Arc<Member>>,
    /// Set once etcd has answered: the admin listener is there from the very beginning.
    parts: OnceLock<Arc<Parts>>,
    /// Why there are no parts yet, as it was last known.
    waits_for: Mutex<String>,
    feed: Feed,
}

impl HostView {
    /// Of a host that has its plugins, and no more yet.
    pub fn new(members: &[Arc<Member>]) -> Self {
        let waits_for = Mutex::new("etcd has not answered yet".to_owned());
        Self { members: members.to_vec(), parts: OnceLock::new(), waits_for, feed: Feed::new() }
    }

    /// etcd cannot be used yet, for this reason.
    pub fn waits_for_etcd(&self, error: &str) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = format!("etcd cannot be used yet: {error}");
    }

    /// The host has all its parts.
    pub fn complete(&self, parts: Arc<Parts>) {
        // A host is completed once; a second time would change nothing.
        let _ = self.parts.set(parts);
    }

    fn component(&self, member: &Member) -> ComponentView {
        let status = member.lifecycle.status();
        let shown = member.shown();
        let parts = self.parts.get();
        let missing = parts.map(|parts| parts.connections.missing(&member.role)).unwrap_or_default();
        let library = member.library();
        let origin = library.origin();
        let swaps = member.swaps.history();
        let session = shown.session.upgrade().map(|session| session.view());
        ComponentView {
            role: member.role.clone(),
            server_id: parts.map(|parts| parts.own.server_id),
            kind: shown.descriptor.as_ref().map(|descriptor| descriptor.kind),
            version: shown
                .descriptor
                .as_ref()
                .and_then(|descriptor| descriptor.version.as_ref())
                .map(ToString::to_string),
            generation: status.generation,
            state_code: status.state.code(),
            fenced: status.fenced.is_some(),
            quarantined: matches!(status.state, State::Abnormal { next_try: None, .. }),
            serving_step: step_of(&status),
            cause: match &status.state {
                State::Abnormal { cause, .. } => Some(cause.clone()),
                State::Initializing { .. } if parts.is_none() => {
                    Some(self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone())
                }
                State::StandBy { holder } => Some(format!("standing by for {holder}")),
                // In step 4 only the session can take long.
                State::Initializing { .. } => session.as_ref().and_then(SessionView::waits_for),
                _ => None,
            },
            since_ms: u64::try_from(status.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            restarts: status.restarts.into(),
            session: json!(session),
            tables: tables(parts, shown.descriptor.as_ref()),
            missing: missing
                .into_iter()
                .map(|missing| MissingDependency {
                    role: missing.role,
                    reason: format!("{}: {}", missing.reason, missing.message),
                })
                .collect(),
            plugin: origin.map(|origin| PluginView {
                path: origin.path.display().to_string(),
                sha256: origin.sha256.to_string(),
            }),
            steps: status.steps.into_iter().map(step_view).collect(),
            generations: member.generations.view().into_iter().map(|generation| json!(generation)).collect(),
            swap: swaps.last().cloned(),
            swaps,
        }
    }
}

/// The tables of the roles that a component depends on.
fn tables(parts: Option<&Arc<Parts>>, descriptor: Option<&Descriptor>) -> Vec<Value> {
    let (Some(parts), Some(descriptor)) = (parts, descriptor) else { return Vec::new() };
    let depends = |role: &Role| descriptor.dependencies.iter().any(|dependency| dependency.role == *role);
    parts.discovery.view().into_iter().filter(|table| depends(&table.role)).map(|table| json!(table)).collect()
}

fn step_name(step: Step) -> StepName {
    StepName { number: step.number(), name: step.name().to_owned() }
}

/// The step that runs, or that has failed.
pub(super) fn step_of(status: &Status) -> Option<StepName> {
    match &status.state {
        State::Initializing { step } => Some(step_name(*step)),
        State::Abnormal { .. } => status.steps.iter().find(|step| step.failed).map(|step| step_name(step.step)),
        State::Healthy | State::StandBy { .. } | State::Stopping { .. } => None,
    }
}

fn step_view(report: crate::lifecycle::StepReport) -> StepView {
    let StepName { number, name } = step_name(report.step);
    let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    StepView { number, name, detail: report.detail, took_ms, failed: report.failed }
}

impl View for HostView {
    fn components(&self) -> Vec<ComponentView> {
        self.members.iter().map(|member| self.component(member)).collect()
    }

    fn connections(&self, past: Past) -> Value {
        let Some(parts) = self.parts.get() else { return json!({ "dependencies": [], "discovery": [] }) };
        let dependencies = match past {
            Past::With => parts.connections.view(),
            Past::Without => parts.connections.view_without_past(),
        };
        json!({ "dependencies": dependencies, "discovery": parts.discovery.view() })
    }

    fn measured(&self) -> Vec<Family> {
        let mut families = gather::own(&self.members, self.feed.readers());
        families.extend(self.parts.get().into_iter().flat_map(|parts| gather::parts(parts)));
        families
    }

    fn feed(&self) -> &Feed {
        &self.feed
    }
}
