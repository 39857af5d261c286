//! What the admin answers show: one [`ComponentView`] for each component, the dependencies' table, and what happens to
//! both.
//!
//! Who knows these things implements [`View`] (the composition root); this module only gives them a shape that tools can
//! rely on. Fields are added, never renamed.

use plugin_api::descriptor::Kind;
use plugin_api::identity::{Role, ServerId};
use plugin_api::state::StateCode;
use serde::{Deserialize, Serialize};

use super::feed::Feed;
use crate::metrics::Family;
use crate::swap::SwapView;

/// Where the answers come from. Each is made anew for each request, from watches: it must not block.
pub trait View: Send + Sync + 'static {
    /// All components of this host.
    fn components(&self) -> Vec<ComponentView>;

    /// The dependencies of all components with their peers' sessions and links.
    fn connections(&self, past: Past) -> serde_json::Value;

    /// All that is measured.
    fn measured(&self) -> Vec<Family>;

    /// What happens from now on, and the last that has happened.
    fn feed(&self) -> &Feed;
}

/// Is what has happened to the peers shown as well?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// How they stand, and their last events.
    With,
    /// How they stand.
    Without,
}

/// One component as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentView {
    /// Its role.
    pub role: Role,
    /// The id of this process; `None` before etcd has given it out.
    pub server_id: Option<ServerId>,
    /// Exclusive or node; `None` before the plugin has said so.
    pub kind: Option<Kind>,
    /// The component's version; `None` before the plugin has said so.
    pub version: Option<String>,
    /// Which loaded copy of the plugin serves, from 1; 0 before there is one.
    pub generation: u64,
    /// Its state code.
    pub state_code: StateCode,
    /// Its lease is not certain, and its policy is *fence*.
    pub fenced: bool,
    /// It is not started again by itself.
    pub quarantined: bool,
    /// The step that runs or has failed; `None` once all are done.
    pub serving_step: Option<StepName>,
    /// The steps of the last start that are done, and the one that failed.
    pub steps: Vec<StepView>,
    /// Why it is not Healthy, with the whole chain of causes.
    pub cause: Option<String>,
    /// For how long it has had its state code, in milliseconds.
    pub since_ms: u64,
    /// How often it was started again since the process began.
    pub restarts: u64,
    /// Its registration in etcd, as the session shows itself.
    pub session: serde_json::Value,
    /// The table of each role that it depends on: revision, age, whether it is stale, how often and why its watch was made
    /// again, what comparing it with etcd's lists has corrected; as `discovery` shows it.
    pub tables: Vec<serde_json::Value>,
    /// Required dependencies that cannot be called now.
    pub missing: Vec<MissingDependency>,
    /// The file that its code came from; `None` before it was loaded, and where it is linked in.
    pub plugin: Option<PluginView>,
    /// Its generations, the one that serves and those before: how each stands, and what of it is alive.
    #[serde(default)]
    pub generations: Vec<serde_json::Value>,
    /// The swap that runs, or the last one.
    #[serde(default)]
    pub swap: Option<SwapView>,
    /// The last swaps, the newest last; only where one component is asked for.
    #[serde(default)]
    pub swaps: Vec<SwapView>,
}

/// One of the five steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepName {
    /// 1 to 5.
    pub number: u8,
    /// What it does, such as `node dependencies`.
    pub name: String,
}

/// A step that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// 1 to 5.
    pub number: u8,
    /// What it does.
    pub name: String,
    /// What it did this time.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// It is the one that failed.
    pub failed: bool,
}

/// A required dependency that cannot be called now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingDependency {
    /// The role that is depended on.
    pub role: Role,
    /// Why, for people.
    pub reason: String,
}

/// The file of a component's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginView {
    /// The file that was found.
    pub path: String,
    /// The SHA-256 of what was loaded, in hex.
    pub sha256: String,
}

impl ComponentView {
    /// What keeps it from being healthy (`/healthz`), in words; never a peer and never a fence.
    pub fn unhealthy(&self) -> Option<String> {
        if matches!(self.state_code, StateCode::Healthy | StateCode::StandBy) {
            return None;
        }
        let mut text = format!("{}: {}", self.role, self.state_code);
        if self.quarantined {
            text.push_str(", in quarantine");
        }
        if let Some(step) = &self.serving_step {
            text.push_str(&format!(", step {} ({})", step.number, step.name));
        }
        if let Some(cause) = &self.cause {
            text.push_str(&format!(": {cause}"));
        }
        Some(text)
    }

    /// All that keeps it from being ready (`/readyz`), in words.
    pub fn unready(&self) -> Vec<String> {
        let fence = self.fenced.then(|| format!("{}: fenced, its lease in etcd is not certain", self.role));
        let missing = self.missing.iter().map(|missing| {
            format!("{}: required dependency {} cannot be called: {}", self.role, missing.role, missing.reason)
        });
        self.unhealthy().into_iter().chain(fence).chain(missing).collect()
    }
}
