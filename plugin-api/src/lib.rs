//! The contract between `componenthost` and the components that it loads.

#![deny(missing_docs)]

pub mod channel;
pub mod component;
pub mod descriptor;
pub mod error;
pub mod identity;
pub mod peers;
pub mod refusal;
pub mod services;
pub mod state;
