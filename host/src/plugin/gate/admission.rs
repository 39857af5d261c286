//! The whole way through the gate, in its order: find, inspect, copy, first look.

use std::path::{Path, PathBuf};

use super::first_look::{FirstLook, OWN_PROGRAM, first_look};
use super::{Admitted, Allowed, GateError, PluginsConfig, find, inspect};
use crate::plugin::copy::{CopyError, PrivateCopy, private_copy};

/// A plugin that may be opened here.
#[derive(Debug)]
pub struct Admission {
    /// What was looked at.
    pub admitted: Admitted,
    /// What is to be opened: see [`PrivateCopy::verified_path`].
    pub copy: PrivateCopy,
    /// What the child process saw; `None` where the configuration leaves that out.
    pub seen: Option<FirstLook>,
}

/// Why there is no admission.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The gate refuses it.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// There is no private copy of it.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The thread that looked at it panicked.
    #[error("the plugin {name} could not be looked at")]
    Panicked {
        /// The name or path, as it was given.
        name: PathBuf,
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

/// Finds a plugin by its name or path, and leads it through the gate. `copies` is the private directory, and `generation`
/// the number that its copy is named by.
///
/// Files are read and hashed on a blocking thread.
///
/// # Errors
///
/// [`AdmissionError`]; no copy is left behind.
///
/// # Cancel safety
///
/// Dropped, it ends the child process; a copy that is being written is removed as soon as it is complete.
pub async fn admit(
    name_or_path: &Path,
    config: &PluginsConfig,
    allowed: &Allowed,
    copies: &Path,
    generation: u64,
) -> Result<Admission, AdmissionError> {
    let (name, config, allowed, copies) = (name_or_path.to_owned(), config.clone(), allowed.clone(), copies.to_owned());
    let limit = config.first_look.then_some(config.first_look_timeout);
    let name_of_task = name.clone();
    let inspected = tokio::task::spawn_blocking(move || {
        let path = find(&name, &config.search_dirs())?;
        let admitted = inspect(&path, &config, &allowed)?;
        let copy = private_copy(&admitted, &copies, generation)?;
        Ok::<_, AdmissionError>((admitted, copy))
    });
    let (admitted, copy) =
        inspected.await.map_err(|source| AdmissionError::Panicked { name: name_of_task, source })??;
    let seen = match limit {
        Some(limit) => Some(first_look(Path::new(OWN_PROGRAM), copy.path(), &admitted.path, limit).await?),
        None => None,
    };
    Ok(Admission { admitted, copy, seen })
}
