//! Why a swap goes no further.

use std::time::Duration;

use bytesize::ByteSize;
use plugin_api::border::v1::component::LifeError;
use plugin_api::descriptor::{Kind, LeasePolicy};
use plugin_api::export::ConfigMistake;
use plugin_api::identity::Role;
use tonic::Code;

use crate::plugin::OpenError;
use crate::plugin::gate::GateError;
use crate::serve::Misfit;

/// Why the former generation goes on. Print the chain.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The file was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is not what the configuration allows.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The component's configuration is none for the new one.
    #[error("the new one does not take the configuration that the component has: {}", mistakes(.0))]
    Config(Vec<ConfigMistake>),
    /// The new one's own code.
    #[error("the new one's {method}")]
    New {
        /// The method.
        method: &'static str,
        /// How it failed.
        source: LifeError,
    },
    /// It hangs where nobody can end it.
    #[error("the new one's constructor took more than {}: its thread is lost", humantime::format_duration(*.0))]
    ConstructorHangs(Duration),
    /// A coordinator cannot become a node.
    #[error("the new one is {}, and the component is {}: restart the host with it", kind(.new), kind(.former))]
    Kind {
        /// Of the new one.
        new: Kind,
        /// Of the one that serves.
        former: Kind,
    },
    /// What holds for its session cannot change under it.
    #[error(
        "the new one's lease policy is {new}, and the component's is {former}: set component.{role}.lease_policy, or restart \
         the host with it"
    )]
    LeasePolicy {
        /// The role.
        role: Role,
        /// Of the new one.
        new: LeasePolicy,
        /// Of the one that serves.
        former: LeasePolicy,
    },
    /// The owner was busy.
    #[error("the component is {state}, and was not ready to be swapped within {} (swap.wait_limit)", humantime::format_duration(*.limit))]
    NotReady {
        /// How it stands.
        state: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Calls that change the state do not end.
    #[error("{calls} calls of gated methods still run after {} (swap.gate_timeout); try again when they have ended", humantime::format_duration(*.limit))]
    GatedCallsRun {
        /// How many.
        calls: usize,
        /// How long they were waited for.
        limit: Duration,
    },
    /// Callers have waited long enough.
    #[error("calls of gated methods were held for {} (swap.hold_limit)", humantime::format_duration(*.0))]
    HeldTooLong(Duration),
    /// The one that serves gives no state.
    #[error("the component gives no state that could be handed over; --state fresh swaps without it")]
    NoState(#[source] LifeError),
    /// The one that serves failed to give its state.
    #[error("the state could not be had from the component: its snapshot")]
    Snapshot(#[source] LifeError),
    /// Its services are not those that are needed.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// What the component may do has changed while its generations were exchanged.
    #[error("the component's session changed meanwhile; try again")]
    SessionChanged,
    /// The one that serves has failed: another matter.
    #[error("the component itself failed meanwhile")]
    FormerFailed(#[source] LifeError),
    /// No more swaps.
    #[error(
        "libraries of generations that have ended would take {retired}, and {limit} are allowed \
         (plugins.retired_memory_limit): restart the host to swap again, libraries are never unmapped"
    )]
    RetiredMemory {
        /// What they would take with the one that serves now.
        retired: ByteSize,
        /// The limit.
        limit: ByteSize,
    },
    /// The host stops.
    #[error("the host stops")]
    Stopping,
}

impl SwapError {
    /// Does it pass by itself? Then the same may succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NotReady { .. } | Self::GatedCallsRun { .. } | Self::HeldTooLong(_) | Self::SessionChanged => true,
            Self::Open(_)
            | Self::Gate(_)
            | Self::Config(_)
            | Self::New { .. }
            | Self::ConstructorHangs(_)
            | Self::Kind { .. }
            | Self::LeasePolicy { .. }
            | Self::NoState(_)
            | Self::Snapshot(_)
            | Self::Misfit(_)
            | Self::FormerFailed(_)
            | Self::RetiredMemory { .. }
            | Self::Stopping => false,
        }
    }

    /// A snapshot that failed: one that is not written is another matter than one that does not work.
    pub(super) fn of_snapshot(source: LifeError) -> Self {
        if is_unimplemented(&source) { Self::NoState(source) } else { Self::Snapshot(source) }
    }
}

/// Has the author not written this method?
pub(super) fn is_unimplemented(error: &LifeError) -> bool {
    matches!(error, LifeError::Failed(error) if error.code() == Code::Unimplemented)
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Coordinator => "a coordinator",
        Kind::Node => "a node",
    }
}

fn mistakes(mistakes: &[ConfigMistake]) -> String {
    let shown = |mistake: &ConfigMistake| match mistake.key.as_str() {
        "" => mistake.text.clone(),
        key => format!("{key}: {}", mistake.text),
    };
    mistakes.iter().map(shown).collect::<Vec<_>>().join("; ")
}
