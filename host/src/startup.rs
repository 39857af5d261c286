//! The start: first what a host is made of, then the five steps of each component, top to bottom.
//!
//! The composition root: the only file that knows every part. Nothing here is fetched from a global; each step takes what
//! the step before returned, so that a wrong order does not compile.

pub mod host;
pub mod prepare;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use plugin_api::border::v1::component::{LifeError, Started};
use plugin_api::component::Resume;
use plugin_api::descriptor::{Dependency, Kind, WaitPolicy};
use plugin_api::identity::Identity;
use plugin_api::peers::PeerEvent;
use plugin_api::refusal::Refusal;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;
use crate::connections::ConnectionManager;
use crate::discovery::Discovery;
use crate::etcd::Etcd;
use crate::lifecycle::{Forbidden, State, Step, StepReport};
use crate::metadata::MetadataStore;
use crate::plugin::gate::Allowed;
use crate::plugin::{Generation, GenerationSettings};
use crate::serve::{Own, SameService, Served, Serving};
use crate::session::{Session, SessionSettings, SessionStatus, StateFile};
use crate::supervise::{Alive, Member, within};

/// The parts of a host that its components are started with.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// Who this host is.
    pub own: Arc<Own>,
    /// Where others reach it, and what is bound.
    pub address: Address,
    /// The connection to etcd.
    pub etcd: Etcd,
    /// The tables of peers.
    pub discovery: Discovery,
    /// The links.
    pub connections: ConnectionManager,
    /// The routes of calls.
    pub served: Served,
    /// What this host process registers is written down here.
    pub state_file: Arc<StateFile>,
    /// The most detailed level that is logged.
    pub log_level: u8,
}

/// Where a host is reached.
#[derive(Clone, Debug)]
pub struct Address {
    /// `host:port`, as it is registered.
    pub advertised: String,
    /// What the listener is bound to.
    pub bound: std::net::SocketAddr,
    /// This machine's name.
    pub host_name: String,
}

/// A step of a component's start failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct StepFailed {
    step: FailedStep,
    source: StepError,
}

#[derive(Debug, thiserror::Error)]
enum FailedStep {
    #[error("step {} of 5 ({})", .0.number(), .0.name())]
    Start(Step),
    #[error("while it was Healthy")]
    Later,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The component's own code.
    #[error("{method}")]
    Life {
        /// The method.
        method: &'static str,
        /// How it failed.
        source: LifeError,
    },
    /// It is not what the configuration allows.
    #[error(transparent)]
    Gate(#[from] crate::plugin::gate::GateError),
    /// Its services clash with another component's.
    #[error(transparent)]
    SameService(#[from] SameService),
    /// The session ended before it was held.
    #[error("the session was given up while it was being registered")]
    Revoked,
    /// The state does not allow it: the host is stopping.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

impl StepFailed {
    /// A failure after the last step.
    pub fn later(source: LifeError) -> Self {
        Self { step: FailedStep::Later, source: StepError::Life { method: "in its background", source } }
    }
}

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
    let start = Start { member, parts, alive };
    let initialized = start.step(Step::Initializing, async |start| start.initialize()).await?;
    let coordinators = initialized.step(Step::Coordinators, async |start| start.link_coordinators().await).await?;
    let started = coordinators.step(Step::Nodes, async |start| start.link_nodes().await?.start().await).await?;
    let registered = started.step(Step::Register, async |start| start.register().await?.activate().await).await?;
    registered.step(Step::Healthy, async |start| start.become_healthy()).await
}
