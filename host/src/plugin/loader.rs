//! Opening a plugin: from a file or from the binary itself, to the table of an interface.
//!
//! Nothing here is cached: each call of [`Library::open`] is a loaded copy of its own. What may be opened at all is decided
//! before, by the gate.

#![allow(unsafe_code, reason = "a library is loaded and its entry symbol called here, and nowhere else in the host")]

use std::path::{Path, PathBuf};

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{AbiHeaderRef, LibraryError};
use abi_stable::std_types::RResult;
use abi_stable::{StableAbi as _, std_types::RStr};
use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use plugin_api::border::message::{decode, encode};
use plugin_api::border::root::{Entry, Fingerprint, RootRef};
use plugin_api::border::v1::component::{CreateSettings, LifeError};
use plugin_api::border::v1::{self, HostV1, LoadedComponent, PluginV1};
use plugin_api::error::Error;
use plugin_api::export::{ConfigMistake, Plugin};

/// Why a library could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The dynamic loader refused it.
    #[error("the dynamic loader cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        source: libloading::Error,
    },
    /// There is no such symbol.
    #[error("{} has no symbol '{symbol}'", path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The entry symbol.
        symbol: String,
        /// The loader's words.
        source: libloading::Error,
    },
    /// abi_stable refused it: another version of its own format, or another layout of the root module.
    #[error("the plugin's root module is not the one that this host knows (expected root version 1.0.0 of abi_stable {}): {source}", plugin_api::border::root::abi_stable_version())]
    Root {
        /// abi_stable's words.
        source: LibraryError,
    },
    /// The fingerprint is no fingerprint.
    #[error("the plugin's fingerprint cannot be read: '{text}'")]
    Fingerprint {
        /// What it gave.
        text: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A panic in it would end the process.
    #[error("the plugin is built with panic = \"{found}\": expected \"unwind\", since a panic in it would end this host; remove `panic` from its Cargo profile")]
    Panic {
        /// Its strategy.
        found: String,
    },
    /// No interface in common.
    #[error("the plugin has the interfaces {found:?} (plugin-api {plugin_api}); this host knows {known}: build it with a plugin-api of this host's version")]
    Interface {
        /// What the plugin has.
        found: Vec<u32>,
        /// With which crate it was built.
        plugin_api: String,
        /// What this host has.
        known: u32,
    },
    /// The interface has the number, but not the layout.
    #[error("the layout of interface {number} differs: {differences}")]
    Layout {
        /// The interface's number.
        number: u32,
        /// abi_stable's words.
        differences: String,
    },
}

/// A plugin that is open. It is never closed: what it has handed out may live as long as the process.
pub struct Library {
    fingerprint: Fingerprint,
    table: &'static PluginV1,
    /// Linked into the binary, not loaded.
    linked: bool,
}

impl Library {
    /// Opens a file as a loaded copy of its own: for that, the path must be one that was never opened before.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names what was expected and found. The file stays mapped then.
    pub fn open(path: &Path, symbol: &str) -> Result<Self, LoadError> {
        // SAFETY: opening runs the library's constructors. The gate has looked at the file, in another process too; a
        // plugin is trusted code of this host's operator.
        let handle = unsafe { Handle::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|source| LoadError::Open { path: path.to_owned(), source })?;
        // SAFETY: the name is reserved for entry symbols of this type.
        let entry = unsafe { handle.get::<Entry>(symbol.as_bytes()) }.map(|symbol| *symbol);
        // abi_stable keeps pointers into the library, and so does every object that it hands out: never unmapped.
        std::mem::forget(handle);
        let entry = entry.map_err(|source| {
            LoadError::Symbol { path: path.to_owned(), symbol: symbol.to_owned(), source }
        })?;
        Self::from_header(entry(), false)
    }

    /// Takes a plugin that is linked into this binary.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn linked(plugin: &Plugin) -> Result<Self, LoadError> {
        Self::from_header((plugin.entry)(), true)
    }

    fn from_header(header: AbiHeaderRef, linked: bool) -> Result<Self, LoadError> {
        let root: RootRef = header
            .upgrade()
            .and_then(abi_stable::library::LibHeader::init_root_module)
            .map_err(|source| LoadError::Root { source })?;
        let text = root.fingerprint()().into_string();
        let fingerprint: Fingerprint =
            serde_json::from_str(&text).map_err(|source| LoadError::Fingerprint { text, source })?;
        if fingerprint.panic != "unwind" {
            return Err(LoadError::Panic { found: fingerprint.panic });
        }
        let table = interface(&root, &fingerprint)?;
        Ok(Self { fingerprint, table, linked })
    }

    /// How it was built.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// All mistakes in a component's own configuration.
    ///
    /// # Errors
    ///
    /// Where the plugin's answer cannot be read.
    pub fn check_config(&self, config: &str) -> Result<Vec<ConfigMistake>, Error> {
        decode(&(self.table.check_config)(RStr::from_str(config)))
    }

    /// The JSON schema of its configuration.
    pub fn schema(&self) -> String {
        (self.table.schema)().into_string()
    }

    /// Makes a component of its configuration.
    ///
    /// # Errors
    ///
    /// As the author's constructor, its panic among them.
    pub fn create(
        &self,
        config: &str,
        host: HostV1,
        mut settings: CreateSettings,
    ) -> Result<LoadedComponent, LifeError> {
        settings.linked = self.linked;
        match (self.table.create)(RStr::from_str(config), host, encode(&settings)) {
            RResult::ROk(component) => Ok(LoadedComponent::new(component)),
            RResult::RErr(message) => Err(decode(&message).map_err(LifeError::Failed)?),
        }
    }
}

/// The newest interface that both have: there is one so far.
fn interface(root: &RootRef, fingerprint: &Fingerprint) -> Result<&'static PluginV1, LoadError> {
    let Some(interface) = root.interface()(v1::NUMBER).into_option() else {
        let (found, plugin_api) = (fingerprint.interfaces.clone(), fingerprint.plugin_api.clone());
        return Err(LoadError::Interface { found, plugin_api, known: v1::NUMBER });
    };
    check_layout_compatibility(PluginV1::LAYOUT, interface.layout).map_err(|differences| LoadError::Layout {
        number: v1::NUMBER,
        differences: differences.to_string(),
    })?;
    // SAFETY: the layout behind this number has just been found to be that of `PluginV1`, and the library is never unmapped.
    Ok(unsafe { &*interface.table.cast::<PluginV1>() })
}
