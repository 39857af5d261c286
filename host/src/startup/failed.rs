//! Why a component's start failed, and in which step.

use plugin_api::border::v1::component::LifeError;

use crate::lifecycle::{Forbidden, Step};
use crate::plugin::gate::GateError;
use crate::serve::SameService;

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
    #[error("after its start")]
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
    Gate(#[from] GateError),
    /// Its services clash with another component's.
    #[error(transparent)]
    SameService(#[from] SameService),
    /// Its key was deleted before it was activated, and that is to stop the host.
    #[error("the session's key was deleted (session.on_deleted = \"stop\")")]
    Deleted,
    /// The session ended before it was held.
    #[error("the session was given up while it was being registered")]
    Revoked,
    /// The state does not allow it: the host is stopping.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

impl StepFailed {
    /// A failure of this step.
    pub(super) fn at(step: Step, source: StepError) -> Self {
        Self { step: FailedStep::Start(step), source }
    }

    /// Would each further try fail in the same way? So it is where the component is not the one that the configuration
    /// means, or serves what another one of this host does.
    pub fn is_final(&self) -> bool {
        matches!(self.source, StepError::Gate(_) | StepError::SameService(_))
    }

    /// Is it that the session's key was deleted? It stops the host, and is no failure of the component.
    pub fn is_deleted(&self) -> bool {
        matches!(self.source, StepError::Deleted)
    }

    /// What it serves, another component of this host serves too.
    pub fn same_service(source: SameService) -> Self {
        Self { step: FailedStep::Later, source: source.into() }
    }

    /// A failure after the last step, in this method.
    pub fn later(method: &'static str, source: LifeError) -> Self {
        Self { step: FailedStep::Later, source: StepError::Life { method, source } }
    }
}
