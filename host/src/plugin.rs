//! Plugins: from a name in the configuration to a live component.
//!
//! The gate decides what may be opened, the loader opens it, a [`Generation`] is a component of it with its ledger and its
//! tasks. Not responsible for when a component is started or restarted: that is `supervise`.

pub mod copy;
pub mod gate;
pub mod inspect;

mod asked;
mod generation;
mod ledger;
mod loader;
mod tasks;
mod threads;

pub use generation::{Generation, GenerationSettings, Traces, WeakGeneration};
pub use ledger::{CallEntry, Ledger, LedgerView};
pub use loader::{Library, OpenError, Origin, retired_bytes};
