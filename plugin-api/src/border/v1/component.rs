//! A component across the border: what is said of it at the border, the plugin's side (`exported`) and the host's (`loaded`).

mod exported;
mod loaded;

use serde::{Deserialize, Serialize};

pub use loaded::LoadedComponent;

use crate::border::future::Panicked;
use crate::error::Error;
use crate::identity::Role;

/// What a component is made with, beside its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSettings {
    /// The role whose section of the configuration it is.
    pub role: Role,
    /// Which loaded copy of the plugin it is.
    pub generation: u64,
    /// The most detailed level that the host logs, as `border::log::level_number` has it.
    pub log_level: u8,
    /// Linked into the host's own binary: logs and panics reach the host's subscriber by themselves.
    pub linked: bool,
}

impl CreateSettings {
    /// The name of the threads of the component's own runtime. The system keeps fifteen letters of it: the generation comes
    /// first.
    pub fn thread_name(&self) -> String {
        format!("g{}-{}", self.generation, self.role)
    }
}

/// What `start` gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The names of its gRPC services.
    pub services: Vec<String>,
    /// Encoded `FileDescriptorSet`s.
    pub descriptor_sets: Vec<serde_bytes::ByteBuf>,
}

/// How a method of the component's life failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifeError {
    /// It returned an error.
    #[error(transparent)]
    Failed(Error),
    /// It panicked.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl From<Panicked> for LifeError {
    fn from(panicked: Panicked) -> Self {
        Self::Panicked(panicked.0)
    }
}

/// Something else than what was asked for has crossed.
fn bad_message(error: Error) -> LifeError {
    LifeError::Failed(error)
}
