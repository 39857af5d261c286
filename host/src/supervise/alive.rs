//! What is alive of a component: made step by step in its start, and undone at its end.

use std::sync::Arc;

use plugin_api::identity::ServerId;
use tokio::sync::watch;

use super::Life;
use super::commands::{Command, Commands};
use super::down::BegunAnew;
use super::giving_up::GivingUp;
use super::swap::{Probation, Retiring};
use super::tenure::Tenure;
use crate::cluster::PeerTable;
use crate::session::Session;

/// A component on its way up or alive: what has to be undone when it ends. Owned by one task at a time.
#[derive(Default)]
pub struct Alive {
    /// The generation that has the component's place, and what is its own.
    pub life: Life,
    /// What it was told of its session, from step 4 on.
    pub tenure: Option<Tenure>,
    /// It has come to step 4 before, in another life.
    pub again: bool,
    /// Its registration. It outlives a restart, and a swap.
    pub session: Option<Arc<Session>>,
    /// Gives that up where the restart takes long.
    pub giving_up: Option<GivingUp>,
    /// The table of its own role: who could take over from a coordinator. It outlives a restart.
    pub rivals: Option<watch::Receiver<Arc<PeerTable>>>,
    /// The generation before, where a swap is not over.
    pub probation: Option<Probation>,
    /// A generation that ends.
    pub retiring: Option<Retiring>,
    /// A swap of a component that was down: its new generation is just starting.
    pub begun_anew: Option<BegunAnew>,
    /// What the owner is asked to do.
    pub commands: Option<Commands>,
}

impl Alive {
    /// Was the component told `activate`, and not `deactivate`?
    pub fn is_activated(&self) -> bool {
        self.tenure.as_ref().is_some_and(Tenure::is_activated)
    }

    /// Could another take over at once: does one stand by that does not stop itself?
    pub fn has_rival(&self, own: ServerId) -> bool {
        self.rivals.as_ref().is_some_and(|table| {
            let table = table.borrow();
            table.sessions.iter().any(|(id, session)| *id != own && session.standby && !session.record.stopping)
        })
    }
}

/// What the owner is asked next.
///
/// # Cancel safety
///
/// Nothing is lost.
pub(super) async fn asked(commands: &mut Option<Commands>) -> Command {
    let Some(commands) = commands else { return std::future::pending().await };
    match commands.recv().await {
        Some(command) => command,
        // The member has the sender, and lives as long as the host.
        None => std::future::pending().await,
    }
}
