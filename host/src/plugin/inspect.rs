//! What a file is, as the gate and a child process find out: for people, who have not made up their minds.
//!
//! Nothing of it is opened in this process. What a plugin's constructors do is done in the child, which then makes a
//! component of an empty configuration, because only a component says what it depends on.

use std::path::{Path, PathBuf};

use plugin_api::border::root::Fingerprint;
use plugin_api::descriptor::{Dependency, Descriptor, Kind, LeasePolicy};
use plugin_api::error::chain;
use plugin_api::identity::Role;
use serde::Serialize;

use super::OpenError;
use super::copy::{CopyError, private_copy};
use super::gate::first_look::{CloseLook, FirstLook, close_look, own_program};
use super::gate::{self, Admitted, PluginsConfig};

/// What was found out; `None` is what was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inspection {
    /// The file, with links resolved where it is a file.
    pub path: PathBuf,
    /// Why a host would not open a plugin there; `None` where it would.
    pub place: Option<String>,
    /// What can be read off the file.
    pub file: Option<FileFound>,
    /// How it was built.
    pub fingerprint: Option<Fingerprint>,
    /// The number of the newest interface that this host and the plugin have.
    pub interface: Option<u32>,
    /// The JSON schema of the component's configuration; `true` allows everything.
    pub schema: Option<serde_json::Value>,
    /// What a component of an empty configuration says of itself.
    pub component: Option<ComponentFound>,
    /// Why there is no such component: its constructor refuses that configuration.
    pub not_created: Option<String>,
    /// The first line that it wrote to standard output, which is the host's.
    pub wrote: Option<String>,
    /// Why a host would refuse it wherever it lay, or how it ended the process that looked at it.
    pub refused: Option<String>,
}

/// What can be read off a plugin's file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileFound {
    /// The hash of its content.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// The bytes of memory that it takes, open.
    pub mapped_bytes: u64,
    /// The symbol that makes it a plugin.
    pub entry_symbol: String,
    /// All symbols that it exports.
    pub exported: Vec<String>,
}

/// What a component says of itself, with what is so where it says nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComponentFound {
    /// The role that it plays; `None` plays any, unless it was asked as one that plays this.
    pub role: Option<Role>,
    /// Exclusive or node.
    pub kind: Kind,
    /// Its version.
    pub version: Option<String>,
    /// The roles that it calls.
    pub dependencies: Vec<Dependency>,
    /// Methods that are held while a swap hands over the state.
    pub gated: Vec<String>,
    /// At the lease's deadline.
    pub lease_policy: LeasePolicy,
}

impl Inspection {
    /// Of the file at this path. A plugin that plays any role is asked as one that plays `role`.
    ///
    /// # Cancel safety
    ///
    /// The child is ended, and the copy removed.
    pub async fn of(path: &Path, config: &PluginsConfig, role: Option<&Role>) -> Self {
        let mut found = Self { path: path.to_owned(), ..Self::default() };
        if let Err(error) = found.look(config, role).await {
            found.refused = Some(chain(&error));
        }
        found
    }

    /// Is there something that a host would not take, or should not?
    pub fn is_wrong(&self) -> bool {
        self.refused.is_some() || self.wrote.is_some()
    }

    async fn look(&mut self, config: &PluginsConfig, role: Option<&Role>) -> Result<(), OpenError> {
        let (admitted, place) = gate::inspect_anywhere(&self.path, config)?;
        self.path.clone_from(&admitted.path);
        self.place = place.map(|wrong| chain(&wrong));
        self.file = Some(FileFound::of(&admitted));
        let copies = tempfile::tempdir().map_err(|source| CopyError::Dir { dir: std::env::temp_dir(), source })?;
        let copy = private_copy(&admitted, &copies.path().join("copy"), 0)?;
        let limit = config.first_look_timeout;
        let looked = close_look(&own_program(), copy.path(), &self.path, limit, role).await;
        self.take(looked);
        Ok(())
    }

    fn take(&mut self, CloseLook { seen, described, wrote, refused }: CloseLook) {
        if let Some(FirstLook { fingerprint, interface, schema }) = seen {
            (self.fingerprint, self.interface, self.schema) = (Some(fingerprint), Some(interface), schema);
        }
        match described {
            Some(Ok(descriptor)) => self.component = Some(ComponentFound::of(descriptor)),
            Some(Err(error)) => self.not_created = Some(chain(&error)),
            None => {}
        }
        (self.wrote, self.refused) = (wrote, refused.map(|error| chain(&error)));
    }
}

impl ComponentFound {
    fn of(descriptor: Descriptor) -> Self {
        Self {
            kind: descriptor.kind,
            version: descriptor.version.as_ref().map(ToString::to_string),
            lease_policy: descriptor.effective_lease_policy(),
            role: descriptor.role,
            dependencies: descriptor.dependencies,
            gated: descriptor.gated,
        }
    }
}

impl FileFound {
    fn of(admitted: &Admitted) -> Self {
        Self {
            sha256: admitted.sha256.to_string(),
            size: admitted.size,
            mapped_bytes: admitted.mapped.bytes,
            entry_symbol: admitted.entry_symbol.clone(),
            exported: admitted.exported.clone(),
        }
    }
}
