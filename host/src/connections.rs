//! The connections: every link to a peer, who may be called over it, and why not.
//!
//! `ConnectionManager` follows the tables of the roles that components depend on, keeps one proved link to each peer, and
//! gives out clients that obey one truth table of two signals: the peer's session in etcd, and the link to it. It does not
//! read etcd (tables reach it as watches) and serves nothing. `startup` hands it the dependencies, components call through
//! its clients, `admin` reads its overview.
//!
//! * [`peer`]: one peer's state machine, without I/O; `driver`: one role's task, which does what the machines say.
//! * `dial`, `link`, `pool`, `connection`, `frames`: from an address to a proved link, what it is made of, and what is seen in
//!   passing. `open`: what of it is counted.
//! * `local`: the way to a peer in this very host.
//! * `dependency`, `events`, `history`: what a driver publishes: the peers now, each change, and the last ones. `ranks`: who
//!   of them is called next.
//! * `client`, `call`, `refusal`: a call: the truth table, waiting, deadlines, sending again; `tape`, `body`: its two
//!   bodies, and how it is cut.

mod body;
mod call;
mod client;
mod config;
mod connection;
mod dependency;
mod dial;
mod driver;
mod events;
mod frames;
mod history;
mod link;
mod local;
mod open;
mod overview;
pub mod peer;
mod places;
mod pool;
mod ranks;
mod refusal;
mod tape;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use plugin_api::channel::Target;
use plugin_api::descriptor::{Dependency, WaitPolicy};
use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::Peer;
use plugin_api::refusal::{Reason, Refusal};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::client::Client;
pub use self::config::{ConnectionsConfig, RequireIdentity};
pub use self::events::PeerEvents;
pub use self::history::PastEvent;
pub use self::link::Way;
pub use self::local::{LocalCalls, LocalHost};
pub use self::overview::{CallerView, DependencyView, Missing, PeerOverview};

use self::client::Declared;
use self::dependency::{Followed, RoleView};
use self::driver::{Driver, Surroundings};
use self::refusal::{About, Verdict, verdict};
use crate::cluster::PeerTable;
use crate::metrics::ByRole;
use crate::tls::Security;

/// How many events of all roles [`ConnectionManager::news`] keeps for whoever is behind.
const NEWS_KEPT: usize = 1024;

/// What code sets of the connections.
#[derive(Clone, Debug)]
pub struct ConnectionsSettings {
    /// What users set.
    pub config: ConnectionsConfig,
    /// The cluster's name: peers must belong to it, and calls say it.
    pub cluster: String,
    /// What refusals call this host (`refused_by`).
    pub own: String,
    /// How peers are spoken with.
    pub security: Security,
    /// Which of the peers is this very host: calls to it need no socket.
    pub local: Option<LocalHost>,
}

/// All links of a host. Cheap to clone.
#[derive(Clone)]
pub struct ConnectionManager {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ConnectionsSettings,
    surroundings: Surroundings,
    /// Cancelled when the host stops; each declared dependency's token is a child of it.
    stop: CancellationToken,
    drivers: TaskTracker,
    news: broadcast::Sender<Arc<PastEvent>>,
    /// Of the roles that are called, also of those that are not depended on any more.
    measured: ByRole,
    roles: RwLock<Roles>,
}

#[derive(Default)]
struct Roles {
    /// By caller and role.
    declared: BTreeMap<(Role, Role), Declared>,
    followed: BTreeMap<Role, FollowedRole>,
}

/// A role with a driver of its own.
struct FollowedRole {
    followed: Arc<Followed>,
    tables: mpsc::UnboundedSender<watch::Receiver<Arc<PeerTable>>>,
    /// Ends the driver, its links and the calls on them.
    stop: CancellationToken,
}

/// What becomes of the calls that a caller makes to a role which it declares again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// They end.
    Ends,
    /// They go on.
    GoesOn,
}

impl ConnectionManager {
    /// Without any dependency so far.
    pub fn new(settings: ConnectionsSettings) -> Self {
        let surroundings = Surroundings {
            config: Arc::new(settings.config.clone()),
            cluster: settings.cluster.clone(),
            security: settings.security.clone(),
            starts: Arc::new(Semaphore::new(settings.config.max_parallel_dials)),
            local: settings.local.clone(),
        };
        let inner = Inner {
            settings,
            surroundings,
            stop: CancellationToken::new(),
            drivers: TaskTracker::new(),
            news: broadcast::Sender::new(NEWS_KEPT),
            measured: ByRole::default(),
            roles: RwLock::new(Roles::default()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Lets `caller` call this role, and dials all of its peers at once, those that come later too. Returns at once.
    ///
    /// Callers of one host share the links of a role, and follow one table: the one that was given last. Must be called on
    /// a tokio runtime.
    pub fn add_dependency(&self, caller: &Role, dependency: Dependency, table: watch::Receiver<Arc<PeerTable>>) {
        self.declare(caller, dependency, table, Before::Ends);
    }

    /// The same where `caller` may depend on that role already, in another way: its calls go on.
    pub fn renew_dependency(&self, caller: &Role, dependency: Dependency, table: watch::Receiver<Arc<PeerTable>>) {
        self.declare(caller, dependency, table, Before::GoesOn);
    }

    fn declare(
        &self,
        caller: &Role,
        dependency: Dependency,
        table: watch::Receiver<Arc<PeerTable>>,
        what_was_before: Before,
    ) {
        let mut roles = self.write();
        // Looked at under the lock: a stop takes it after it has said so, and ends what it finds.
        if self.is_stopped() {
            return;
        }
        let role = dependency.role.clone();
        let followed = match roles.followed.get(&role) {
            Some(known) => {
                // A driver that has ended is of a host that stops.
                let _ = known.tables.send(table);
                Arc::clone(&known.followed)
            }
            None => {
                let known = self.follow(role.clone(), table);
                let followed = Arc::clone(&known.followed);
                roles.followed.insert(role.clone(), known);
                followed
            }
        };
        let key = (caller.clone(), role);
        let before = roles.declared.get(&key).map(|declared| declared.ended.clone());
        let ended = match (before, what_was_before) {
            (Some(ended), Before::GoesOn) => ended,
            (before, _) => {
                if let Some(ended) = before {
                    ended.cancel();
                }
                Arc::new(self.inner.stop.child_token())
            }
        };
        roles.declared.insert(key, Declared { dependency: Arc::new(dependency), followed, ended });
    }

    /// Ends all calls, waits and streams of `caller` to this role at once, with `DEPENDENCY_REMOVED`; and the role's links
    /// and dials, where nobody else depends on it.
    pub async fn remove_dependency(&self, caller: &Role, role: &Role) {
        let mut roles = self.write();
        let Some(declared) = roles.declared.remove(&(caller.clone(), role.clone())) else { return };
        declared.ended.cancel();
        let still_needed = roles.declared.keys().any(|(_, other)| other == role);
        if !still_needed && let Some(followed) = roles.followed.remove(role) {
            followed.stop.cancel();
        }
    }

    /// A client of `caller` for this target. It can be made at any time: what it may call is decided at each call.
    pub fn client(&self, caller: &Role, target: Target) -> Client {
        Client::new(self.clone(), caller.clone(), target)
    }

    /// All known peers of a role, with the state of their session and link; those in standby are marked.
    ///
    /// # Errors
    ///
    /// `NOT_DECLARED`, or `HOST_STOPPING`.
    pub fn clients(&self, caller: &Role, role: &Role) -> Result<Vec<Peer>, Refusal> {
        Ok(self.expect_declared(caller, role)?.followed.view().list())
    }

    /// All peers of a role now, then each change in order. Whoever reads slowly gets the table again in place of what was
    /// missed; nobody waits for a reader.
    ///
    /// # Errors
    ///
    /// `NOT_DECLARED`, or `HOST_STOPPING`.
    pub fn watch_clients(&self, caller: &Role, role: &Role) -> Result<PeerEvents, Refusal> {
        let Declared { followed, ended, .. } = self.expect_declared(caller, role)?;
        Ok(PeerEvents::new(followed, CancellationToken::clone(&ended)))
    }

    /// Waits as the policy says; false where the wait ran out, or was ended.
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub async fn wait_ready(&self, caller: &Role, role: &Role, policy: WaitPolicy) -> bool {
        let Some(Declared { followed, ended, .. }) = self.declared(caller, role) else { return false };
        let mut views = followed.watch();
        let timeout = match policy {
            WaitPolicy::No => return true,
            WaitPolicy::AtLeast { timeout, .. } | WaitPolicy::All { timeout } => timeout,
        };
        let ready = async {
            match policy {
                WaitPolicy::No => true,
                WaitPolicy::AtLeast { count, .. } => views.wait_for(|view| callable(view) >= count).await.is_ok(),
                WaitPolicy::All { .. } => {
                    let registered: Vec<ServerId> =
                        match views.wait_for(|view| view.table.confirmed_at().is_some()).await {
                            Ok(first) => first.peers.keys().copied().collect(),
                            Err(_) => return false,
                        };
                    views.wait_for(|view| all_callable(view, &registered)).await.is_ok()
                }
            }
        };
        tokio::select! {
            () = ended.cancelled() => false,
            () = tokio::time::sleep(timeout) => false,
            ready = ready => ready,
        }
    }

    /// What is counted of the calls to each role, and of the links to its peers.
    pub fn measured(&self) -> ByRole {
        self.inner.measured.clone()
    }

    /// What happens to the peers of any role from now on, as people are told of it. Whoever is slow is told how much was
    /// missed.
    pub fn news(&self) -> broadcast::Receiver<Arc<PastEvent>> {
        self.inner.news.subscribe()
    }

    /// What people can see: each role that is depended on, its peers, and the last events.
    pub fn view(&self) -> Vec<DependencyView> {
        self.describe(true)
    }

    /// The same without the events, which are by far the most of it.
    pub fn view_without_past(&self) -> Vec<DependencyView> {
        self.describe(false)
    }

    fn describe(&self, past: bool) -> Vec<DependencyView> {
        let roles = self.read();
        let callers = |role: &Role| {
            let of_role = roles.declared.iter().filter(|((_, other), _)| other == role);
            let describe = |(caller, dependency): (&Role, &Dependency)| CallerView {
                role: caller.clone(),
                kind: dependency.kind,
                required: dependency.required,
            };
            of_role.map(|((caller, _), declared)| describe((caller, &declared.dependency))).collect()
        };
        roles
            .followed
            .values()
            .map(|known| DependencyView::of(&known.followed, callers(&known.followed.role), past))
            .collect()
    }

    /// The required dependencies of `caller` that cannot be called now, and why.
    pub fn missing(&self, caller: &Role) -> Vec<Missing> {
        let roles = self.read();
        let required =
            roles.declared.iter().filter(|((other, _), declared)| other == caller && declared.dependency.required);
        required.filter_map(|((_, role), declared)| self.missing_role(role, declared)).collect()
    }

    /// Ends all dials, waits and running calls at once, with `HOST_STOPPING`.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        for (_, known) in std::mem::take(&mut self.write().followed) {
            known.stop.cancel();
        }
        self.inner.drivers.close();
        self.inner.drivers.wait().await;
    }

    fn follow(&self, role: Role, table: watch::Receiver<Arc<PeerTable>>) -> FollowedRole {
        let followed = Arc::new(Followed::new(role.clone(), self.inner.news.clone(), self.measured().of(&role)));
        // Not a child of the host's token: calls must see the stop of their dependency before the cut of their peer.
        let stop = CancellationToken::new();
        let (tables, replaced) = mpsc::unbounded_channel();
        let mut driver = Driver::new(Arc::clone(&followed), table, stop.clone(), self.inner.surroundings.clone());
        driver.begin();
        self.inner.drivers.spawn(driver.run(replaced));
        FollowedRole { followed, tables, stop }
    }

    fn missing_role(&self, role: &Role, declared: &Declared) -> Option<Missing> {
        let view = declared.followed.view();
        let target = Target::Role(role.clone());
        let about = About { refused_by: self.label(), target: &target };
        let refusal = match declared.followed.next(&view, declared.dependency.kind) {
            None => about.refuse_absent(&view),
            Some(peer) => match verdict(&peer.state) {
                Verdict::Call | Verdict::Moment => return None,
                Verdict::Wait(reason) | Verdict::Refuse(reason) => about.refuse_for(reason, &view, peer),
            },
        };
        Some(Missing { role: role.clone(), reason: refusal.reason, message: refusal.message })
    }

    fn expect_declared(&self, caller: &Role, role: &Role) -> Result<Declared, Refusal> {
        self.declared(caller, role).ok_or_else(|| self.refuse_undeclared(caller, &Target::Role(role.clone())))
    }

    fn refuse_undeclared(&self, caller: &Role, target: &Target) -> Refusal {
        let about = About { refused_by: self.label(), target };
        if self.is_stopped() {
            return about.refuse(Reason::HostStopping, "the host is stopping");
        }
        let message = format!("{caller} did not declare that it depends on {}", target.role());
        about.refuse(Reason::NotDeclared, message)
    }

    fn declared(&self, caller: &Role, role: &Role) -> Option<Declared> {
        // The pair owns its roles: two short copies for each call, no more.
        self.read().declared.get(&(caller.clone(), role.clone())).cloned()
    }

    fn is_stopped(&self) -> bool {
        self.inner.stop.is_cancelled()
    }

    fn label(&self) -> &str {
        &self.inner.settings.own
    }

    fn config(&self) -> &ConnectionsConfig {
        &self.inner.settings.config
    }

    fn read(&self) -> RwLockReadGuard<'_, Roles> {
        self.inner.roles.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Roles> {
        self.inner.roles.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        let roles = self.roles.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for known in roles.followed.values() {
            known.stop.cancel();
        }
    }
}

fn callable(view: &RoleView) -> usize {
    view.peers.values().filter(|peer| peer.is_callable()).count()
}

/// Those that have gone meanwhile are not waited for, nor are those in standby, which nobody calls.
fn all_callable(view: &RoleView, registered: &[ServerId]) -> bool {
    registered
        .iter()
        .filter_map(|server_id| view.peers.get(server_id))
        .all(|peer| peer.is_callable() || peer.entry.standby || peer.is_stopping())
}
