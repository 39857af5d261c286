//! What this host serves: which component answers for which gRPC service, and how each stands.
//!
//! `supervise` writes it, `serve::dispatch` and the host's own service read it, for every call without a lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use plugin_api::identity::Role;
use tokio::sync::watch;
use tonic::service::Routes;

use super::cut::Cut;
use super::hold::{Gated, Hold};
use crate::lifecycle::Status;
use crate::metrics::{ByRole, OfRole};
use crate::plugin::{CallEntry, Generation};

/// All components of this host, as calls see them. Cheap to clone.
#[derive(Clone)]
pub struct Served {
    table: Arc<ArcSwap<Table>>,
    // Held while a new table is made of the present one; never while a call is served.
    change: Arc<Mutex<()>>,
    measured: ByRole,
}

/// One state of [`Served`].
#[derive(Clone, Default)]
pub struct Table {
    /// The host's components.
    pub members: BTreeMap<Role, Member>,
    /// By gRPC service name.
    pub services: BTreeMap<String, Role>,
    /// Reflection for all of them.
    pub reflection: Option<Routes>,
}

/// One component.
#[derive(Clone)]
pub struct Member {
    /// How it stands.
    pub status: watch::Receiver<Status>,
    /// Who answers; `None` until its `start` has returned.
    pub serving: Option<Serving>,
    /// Asked for each call.
    pub certain: Certain,
    /// Holds its gated methods while it is swapped.
    pub hold: Hold,
    /// What is counted of its calls.
    pub measured: Arc<OfRole>,
}

/// A started component.
#[derive(Clone)]
pub struct Serving {
    /// The component.
    pub generation: Generation,
    /// The names of its services.
    pub services: Vec<String>,
    /// Encoded `FileDescriptorSet`s of their messages.
    pub descriptor_sets: Arc<Vec<Vec<u8>>>,
    /// The methods that are held while it hands over its state.
    pub gated: Gated,
    /// Cuts what still runs.
    pub cut: Cut,
}

/// Is the component's session held for certain at this very moment, where its policy asks for that? It looks at the lease's
/// deadline and a clock: no flag that a task sets would be in time where the whole process stood still.
pub type Certain = Arc<dyn Fn() -> bool + Send + Sync>;

/// Two components of a host have a service of the same name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the components '{one}' and '{other}' both serve '{service}': a host can route it to one of them only")]
pub struct SameService {
    one: Role,
    other: Role,
    service: String,
}

/// Why a component cannot serve in the place of another of its role.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// Another component serves one of them.
    #[error(transparent)]
    SameService(#[from] SameService),
    /// Its callers would be told that nobody serves it.
    #[error("the new one does not serve {services}, which {role} serves now: restart the host with it")]
    Missing {
        /// The component's.
        role: Role,
        /// Those that would be gone.
        services: String,
    },
}

impl Served {
    /// These components, none of them started.
    pub fn new(members: impl IntoIterator<Item = (Role, watch::Receiver<Status>)>) -> Self {
        let all = ByRole::default();
        let member = |(role, status)| {
            let measured = all.of(&role);
            (role, Member { status, serving: None, certain: Arc::new(|| true), hold: Hold::default(), measured })
        };
        let members = members.into_iter().map(member).collect();
        let mut table = Table { members, ..Table::default() };
        // The host's own services are there before any component is, and tell how those stand that never start.
        table.reflection = reflection(&table);
        Self { table: Arc::new(ArcSwap::from_pointee(table)), change: Arc::default(), measured: all }
    }

    /// What is counted of the calls to each component.
    pub fn measured(&self) -> &ByRole {
        &self.measured
    }

    /// The present state.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Is this still the present state? The call has been counted, as it must have been before this is asked.
    pub fn is_present(&self, table: &Arc<Table>, _counted: &CallEntry) -> bool {
        Arc::ptr_eq(table, &self.table.load())
    }

    /// Takes up a started component in one atomic change of the routes; what was there for its role goes.
    ///
    /// # Errors
    ///
    /// [`SameService`], with nothing changed.
    pub fn begin(&self, role: &Role, serving: Serving, certain: Certain) -> Result<(), SameService> {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table());
        table.route(role, &serving.services)?;
        if let Some(member) = table.members.get_mut(role) {
            member.serving = Some(serving);
            member.certain = certain;
        }
        table.reflection = reflection(&table);
        self.table.store(Arc::new(table));
        Ok(())
    }

    /// Could a component of this role serve these, in place of those that it serves now?
    ///
    /// # Errors
    ///
    /// [`Misfit`].
    pub fn check(&self, role: &Role, services: &[String]) -> Result<(), Misfit> {
        let table = self.table();
        Table::clone(&table).route(role, services)?;
        let own = table.services.iter().filter(|(_, other)| *other == role).map(|(service, _)| service.as_str());
        let missing: Vec<&str> = own.filter(|own| !services.iter().any(|service| service == own)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Misfit::Missing { role: role.clone(), services: missing.join(", ") })
    }

    /// Holds a component's gated methods; `None` for a role that this host has not.
    pub fn hold(&self, role: &Role) -> Option<Hold> {
        self.table().members.get(role).map(|member| member.hold.clone())
    }

    /// A component is gone: its services stay known, so that a call of them is told how it stands.
    pub fn end(&self, role: &Role) {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table());
        if let Some(member) = table.members.get_mut(role) {
            member.serving = None;
        }
        self.table.store(Arc::new(table));
    }
}

impl Table {
    /// The services of a role are these, and no others.
    fn route(&mut self, role: &Role, services: &[String]) -> Result<(), SameService> {
        self.services.retain(|_, other| other != role);
        for service in services {
            if let Some(one) = self.services.insert(service.clone(), role.clone()) {
                return Err(SameService { one, other: role.clone(), service: service.clone() });
            }
        }
        Ok(())
    }
}

/// Reflection (v1 and v1alpha) over all started components and the host's own services.
fn reflection(table: &Table) -> Option<Routes> {
    let sets: Vec<Arc<Vec<Vec<u8>>>> = table
        .members
        .values()
        .filter_map(|member| member.serving.as_ref())
        .map(|serving| serving.descriptor_sets.clone())
        .collect();
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(crate::wire::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for set in sets.iter().flat_map(|sets| sets.iter()) {
            builder = builder.register_encoded_file_descriptor_set(set);
        }
        builder
    };
    let (v1, v1alpha) = match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => (v1, v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "a component's message descriptors cannot be read: no reflection");
            return None;
        }
    };
    Some(Routes::new(v1).add_service(v1alpha).prepare())
}
