//! From a name in the configuration to an open library: find, gate, private copy, first look, open, agree.
//!
//! Each call of [`Library::open`] is a loaded copy of its own; nothing is cached, and nothing is ever closed, since what a
//! library has handed out may live as long as the process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use abi_stable::std_types::RStr;
use plugin_api::border::message::decode;
use plugin_api::border::root::Fingerprint;
use plugin_api::border::v1::component::{CreateSettings, LifeError};
use plugin_api::border::v1::{HostV1, LoadedComponent};
use plugin_api::descriptor::Descriptor;
use plugin_api::error::Error;
use plugin_api::export::{ConfigMistake, Plugin};
use plugin_api::identity::Role;
use tokio::runtime::Handle;

use super::asked::Nobody;
use super::copy::{CopyError, PrivateCopy, private_copy};
use super::gate::agreement::{Agreed, Interface, agree};
use super::gate::first_look::{first_look, own_program};
use super::gate::handshake::{HandshakeError, Loaded};
use super::gate::keys;
use super::gate::{self, Admitted, Allowed, Digest, GateError, PluginsConfig};

/// Why a plugin was not opened. Print the chain.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The gate refused it.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// It could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A plugin that is linked into this binary does not fit it.
    #[error("the plugin '{package}', which is linked into this binary, does not fit this host")]
    Linked {
        /// Its crate.
        package: &'static str,
        /// What does not fit.
        source: HandshakeError,
    },
    /// A library more would end the process.
    #[error(
        "the process has no room for another library: of its keys of thread-local data, of which each library keeps one, \
         fewer than {} are left; restart the host, libraries are never unmapped",
        keys::NEEDED
    )]
    NoKeys,
    /// The dynamic loader gave code that is open already.
    #[error("the dynamic loader took {} for a library that is open already: its code would be the old one", path.display())]
    OldCode {
        /// The file.
        path: PathBuf,
    },
}

/// Where a library's code came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it was found, absolute and before links were resolved: a newer one is found there.
    pub found: PathBuf,
    /// The file, with links resolved.
    pub path: PathBuf,
    /// The hash of what was opened.
    pub sha256: Digest,
}

/// A plugin that is open.
pub struct Library {
    agreed: Agreed,
    /// Which loaded copy of a plugin it is in this host, by role.
    generation: u64,
    /// `None` where it is linked into the binary.
    origin: Option<Origin>,
    mapped: Mapped,
}

/// The entries of all libraries that are open: two copies that are open at a time have two addresses.
static OPEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// How much of the libraries that were opened is mapped, for ever.
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// How much of that is of libraries that somebody still has a use for.
static USED: AtomicU64 = AtomicU64::new(0);

/// So many bytes of a library are mapped; in use until it is dropped.
struct Mapped(u64);

impl Mapped {
    fn new(bytes: u64) -> Self {
        USED.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        USED.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// How many bytes are mapped of libraries that nobody has a use for any more: of generations that have ended, and of files that
/// were opened and refused.
pub fn retired_bytes() -> u64 {
    MAPPED.load(Ordering::Relaxed).saturating_sub(USED.load(Ordering::Relaxed))
}

impl Library {
    /// Opens a plugin by its name or path, after all of the gate's checks.
    ///
    /// `copies` is the private directory, `generation` the number of this copy.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A file that was opened before the error stays mapped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is opened; the copy is removed.
    pub async fn open(
        name: &str,
        config: &PluginsConfig,
        allowed: &Allowed,
        copies: &Path,
        generation: u64,
    ) -> Result<Self, OpenError> {
        // Reading, hashing and copying tens of megabytes, and the library's constructors, are no work for a worker.
        let (name, rules) = (PathBuf::from(name), config.clone());
        let (wanted, copies) = (allowed.clone(), copies.to_owned());
        let (found, admitted, copy) = blocking(move || {
            if !keys::are_left(keys::NEEDED) {
                return Err(OpenError::NoKeys);
            }
            let found = gate::find(&name, &rules.search_dirs())?;
            let admitted = gate::inspect(&found, &rules, &wanted)?;
            let copy = private_copy(&admitted, &copies, generation)?;
            Ok((std::path::absolute(&found).unwrap_or(found), admitted, copy))
        })
        .await?;
        if config.first_look {
            first_look(&own_program(), copy.path(), &admitted.path, config.first_look_timeout).await?;
        }
        blocking(move || Self::open_copy(found, &admitted, &copy, generation)).await
    }

    fn open_copy(found: PathBuf, admitted: &Admitted, copy: &PrivateCopy, generation: u64) -> Result<Self, OpenError> {
        let path = admitted.path.clone();
        let misfit = |source| GateError::Handshake { path: path.clone(), source };
        let loaded = Loaded::open(copy.verified_path()?, &admitted.entry_symbol).map_err(misfit)?;
        MAPPED.fetch_add(admitted.mapped.bytes, Ordering::Relaxed);
        remember(&loaded, &path)?;
        let agreed = loaded.header().and_then(agree).map_err(misfit)?;
        let origin = Some(Origin { found, path, sha256: admitted.sha256 });
        Ok(Self { agreed, generation, origin, mapped: Mapped::new(admitted.mapped.bytes) })
    }

    /// Takes a plugin that is linked into this binary.
    ///
    /// # Errors
    ///
    /// [`OpenError::Linked`].
    pub fn linked(plugin: &Plugin, generation: u64) -> Result<Self, OpenError> {
        let header = (plugin.entry)().upgrade().map_err(HandshakeError::from);
        let agreed = header.and_then(agree).map_err(|source| OpenError::Linked { package: plugin.package, source })?;
        Ok(Self { agreed, generation, origin: None, mapped: Mapped::new(0) })
    }

    /// How it was built.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.agreed.fingerprint
    }

    /// Where it came from; `None` where it is linked into the binary.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// How much memory it keeps mapped, for ever; 0 where it is linked into the binary, which is there without it.
    pub fn mapped_bytes(&self) -> u64 {
        self.mapped.0
    }

    /// Which loaded copy of the role's plugins it is, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All mistakes in a component's own configuration.
    ///
    /// # Errors
    ///
    /// Where the plugin's answer cannot be read.
    pub fn check_config(&self, config: &str) -> Result<Vec<ConfigMistake>, Error> {
        let Interface::V1(table) = self.agreed.interface;
        decode(&(table.check_config)(RStr::from_str(config)))
    }

    /// Makes a component of its configuration.
    ///
    /// # Errors
    ///
    /// As the author's constructor, its panic among them.
    pub fn create(&self, config: &str, host: HostV1, settings: &CreateSettings) -> Result<LoadedComponent, LifeError> {
        self.agreed.interface.create(config, host, settings)
    }

    /// What a component of that configuration says of itself. It is made for this alone, and not started.
    ///
    /// # Errors
    ///
    /// As the author's constructor, its panic among them.
    pub fn descriptor(&self, role: &Role, config: &str) -> Result<Descriptor, LifeError> {
        let settings = CreateSettings {
            role: role.clone(),
            generation: self.generation,
            log_level: 0,
            linked: self.origin.is_none(),
        };
        let host = HostV1::new(Arc::new(Nobody), Handle::current());
        self.create(config, host, &settings)?.descriptor()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never aborted: so it has panicked, and that is for the caller's task.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

fn remember(loaded: &Loaded, path: &Path) -> Result<(), OpenError> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if open.contains(&loaded.entry_address()) {
        return Err(OpenError::OldCode { path: path.to_owned() });
    }
    open.push(loaded.entry_address());
    Ok(())
}
