//! The generations of a component as the admin answers show them, and what each still holds.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::eventually::{eventually, holds};
use crate::host::{Host, LIMIT};

/// A generation. What a test does not look at is left out.
#[derive(Clone, Debug, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// `candidate`, `serving`, `kept`, `draining` or `retired`.
    pub stand: String,
    /// The component's version.
    pub version: String,
    /// The file that it came from.
    pub path: Option<String>,
    /// Its hash.
    pub sha256: Option<String>,
    /// How much of its library is mapped for ever.
    pub mapped_bytes: u64,
    /// The component itself was dropped.
    pub dropped: bool,
    /// Calls that run.
    pub calls: u64,
    /// Background tasks by name.
    pub tasks: BTreeMap<String, u64>,
    /// Channels to peers that it has.
    pub channels: u64,
    /// Streams of peers and metadata that it follows.
    pub streams: u64,
    /// Buffers of its own that others hold.
    pub buffers: u64,
    /// Threads of its own.
    pub threads: u64,
}

impl Generation {
    /// Is nothing of it left but its memory?
    pub fn is_gone(&self) -> bool {
        let held = [self.calls, self.channels, self.streams, self.buffers, self.threads];
        self.stand == "retired" && self.dropped && held == [0; 5] && self.tasks.is_empty()
    }
}

impl Host {
    /// The generations of a component, in order.
    ///
    /// # Panics
    ///
    /// Where they are not shown.
    pub async fn generations(&self, role: &str) -> Vec<Generation> {
        let view = self.component(role).await;
        serde_json::from_value(view["generations"].clone()).unwrap_or_else(|error| panic!("{error}: {view}"))
    }

    /// Which generation serves.
    ///
    /// # Panics
    ///
    /// Where that is not shown.
    pub async fn generation(&self, role: &str) -> u64 {
        let view = self.component(role).await;
        view["generation"].as_u64().unwrap_or_else(|| panic!("no generation: {view}"))
    }

    /// Waits until nothing is left of all generations but the one that serves, and gives all.
    pub async fn only_one_generation_lives(&self, role: &str) -> Vec<Generation> {
        eventually(LIMIT, || async {
            let all = self.generations(role).await;
            let serving = self.generation(role).await;
            let left = all.iter().filter(|one| one.number != serving && !one.is_gone()).count();
            holds(left == 0, &all).map_err(|all| format!("{serving} serves: {all:#?}"))?;
            Ok::<_, String>(all)
        })
        .await
    }

    /// What is shown of a component that a swap which came to nothing must not have changed.
    pub async fn as_before_a_swap(&self, role: &str) -> Value {
        let view = self.component(role).await;
        let fields = ["generation", "version", "state_code", "plugin", "restarts", "server_id", "steps"];
        let lease = &view["session"]["lease"];
        Value::from_iter(fields.iter().map(|field| (*field, view[*field].clone())).chain([("lease", lease.clone())]))
    }
}
