//! What a host is made of, as its components' starts and the way back need it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytesize::ByteSize;
use plugin_api::identity::Role;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::Config;
use crate::connections::ConnectionManager;
use crate::discovery::Discovery;
use crate::etcd::Etcd;
use crate::metadata::MetadataStore;
use crate::plugin::{GenerationSettings, Library, retired_bytes};
use crate::serve::{Own, Served};
use crate::session::StateFile;
use crate::supervise::Life;
use crate::supervise::swap::SwapError;

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
    /// Why a component asks for the host's stop, once one does.
    pub stop_asked: watch::Sender<Option<String>>,
    /// The runtime of sessions and discovery: no component's code runs there.
    pub control: Handle,
    /// The runtime of components' code, calls and links.
    pub workers: Handle,
}

impl Parts {
    /// Asks for the stop of the whole host, in good order; the first who asks is told.
    pub fn ask_for_stop(&self, why: String) {
        self.stop_asked.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(why);
            first
        });
    }

    /// May this library be replaced by another one: is there room for one more that nobody uses?
    ///
    /// # Errors
    ///
    /// [`SwapError::RetiredMemory`].
    pub(crate) fn check_retired(&self, replaced: &Library) -> Result<(), SwapError> {
        let (retired, limit) = (retired_bytes() + replaced.mapped_bytes(), self.config.plugins.retired_memory_limit);
        if retired > limit.as_u64() {
            return Err(SwapError::RetiredMemory { retired: ByteSize(retired), limit });
        }
        if retired > limit.as_u64() / 2 {
            let retired = ByteSize(retired);
            tracing::warn!(%retired, %limit, "libraries that nobody uses any more take more than half of what they may \
                (plugins.retired_memory_limit): restart the host before it is all");
        }
        Ok(())
    }

    /// What a generation of this role is given. Its metadata is its life's own: it may not be written yet, also where its
    /// session is held all the while.
    pub(crate) fn generation_settings(&self, role: &Role, life: &mut Life) -> GenerationSettings {
        let metadata = MetadataStore::new(self.etcd.clone(), role.clone(), self.config.discovery.patience());
        GenerationSettings {
            role: role.clone(),
            log_level: self.log_level,
            connections: self.connections.clone(),
            metadata: life.metadata.insert(metadata).clone(),
            runtime: self.workers.clone(),
        }
    }
}

/// Where a host is reached.
#[derive(Clone, Debug)]
pub struct Address {
    /// `host:port`, as it is registered.
    pub advertised: String,
    /// What the listener is bound to.
    pub bound: SocketAddr,
    /// This machine's name.
    pub host_name: String,
}
