//! What can be changed over the admin socket, and over nothing else: who may open the socket's file may change the host.
//!
//! Who can do these things implements [`Control`] (the composition root).

use async_trait::async_trait;
use plugin_api::identity::Role;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::swap::{Order, SwapView};

/// Why nothing was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// This host has other components.
    #[error("no component of the role {role} in this host: it has {}", .roles.join(", "))]
    NoSuchRole {
        /// The role that was asked for.
        role: Role,
        /// Those that there are.
        roles: Vec<String>,
    },
    /// The host has not come so far, or stops.
    #[error("{0}")]
    NotNow(String),
}

/// A component that was started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// The state that it came to; see `plugin_api::state`.
    pub state_code: String,
    /// What its last step did, or why its start failed.
    pub detail: String,
    /// Does it serve, or stand by?
    pub started: bool,
}

/// The changes that can be asked for.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Begins a swap; what is returned follows it to its outcome. It goes on though nobody follows it.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: then there is no swap, not even a refused one.
    fn swap(&self, role: &Role, order: Order) -> Result<watch::Receiver<SwapView>, ControlError>;

    /// Ends the component's life and starts it again from its constructor, with the code that it has; a quarantine ends.
    /// Returns when it serves, stands by, or has failed again.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: then nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// It is started again all the same.
    async fn restart(&self, role: &Role) -> Result<Restarted, ControlError>;
}
