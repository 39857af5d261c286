//! A host: its parts in the order in which they need one another, and its components, each in a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use componenthost_etcd::EmbeddedEtcd;
use plugin_api::export::Plugin;
use plugin_api::identity::{Role, ServerId};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::changed;
use super::control::HostControl;
use super::embedded;
use super::ids;
use super::news;
use super::prepare::{self, Refused};
use super::view::HostView;
use super::{Address, Parts};
use crate::admin::{self, Control, Socket, SocketError, View as _};
use crate::config::Config;
use crate::connections::{ConnectionManager, ConnectionsSettings, LocalHost};
use crate::discovery::Discovery;
use crate::etcd::{Etcd, EtcdError};
use crate::serve::{self, Answers, Own, ServeError, Served};
use crate::session::{SessionError, StateFile, StateFileError, take_server_id};
use crate::supervise::{self, Alive, Member};
use crate::tls::{self, Security};

/// How often it is said why etcd cannot be used, and how long the next try waits.
const ETCD_RETRY: Duration = Duration::from_secs(2);

/// Why a host could not be started. Print the chain.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// Components that cannot be started as they are configured.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The listener.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The admin listener.
    #[error("cannot listen on {address} (admin.listen)")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The Unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The server id could not be taken.
    #[error("no server id could be taken")]
    ServerId(#[source] SessionError),
    /// The state file.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The files for TLS between hosts.
    #[error("no TLS between hosts ([tls])")]
    Tls(#[source] tls::FileError),
    /// The embedded etcd.
    #[error("the embedded etcd (etcd.embedded) cannot start")]
    EmbeddedEtcd(#[from] componenthost_etcd::StartError),
    /// Stopped before it was up.
    #[error("stopped while it was starting")]
    Stopped,
}

impl StartupError {
    /// Is it for the user to mend in the configuration?
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.is_of_configuration())
    }
}

/// A host that runs.
pub struct Host {
    pub(crate) parts: Arc<Parts>,
    pub(crate) members: Vec<Running>,
    /// Ends the listener: callers are told with GOAWAY.
    pub(crate) drain: CancellationToken,
    /// Ends when the last call over the listener has.
    pub(crate) listener: AbortOnDropHandle<Result<(), ServeError>>,
    pub(crate) admin: Admin,
    /// Raises the server ids where etcd loses its data.
    pub(crate) ids: AbortOnDropHandle<()>,
    /// What can be changed while it runs.
    pub(crate) control: Arc<dyn Control>,
    /// Looks at the files of certificates, where there are any.
    pub(crate) reload: Option<AbortOnDropHandle<()>>,
    /// The etcd within this host, where there is one: it outlives all sessions.
    pub(crate) embedded: Option<EmbeddedEtcd>,
}

/// A component and the task that owns it.
pub(crate) struct Running {
    pub(crate) member: Arc<Member>,
    /// Makes the task give up what it owns.
    pub(crate) stop: CancellationToken,
    pub(crate) task: AbortOnDropHandle<Alive>,
}

/// The admin listener; it is the last to go.
pub(crate) struct Admin {
    pub(crate) stop: CancellationToken,
    pub(crate) task: AbortOnDropHandle<std::io::Result<()>>,
    /// The same answers over the Unix socket, once there is a server id.
    pub(crate) socket: Option<AbortOnDropHandle<()>>,
    /// Tells readers what happens.
    pub(crate) news: Option<AbortOnDropHandle<()>>,
}

impl Host {
    /// Starts a host: returns when its components are on their way, each through its five steps.
    ///
    /// Components' code and calls run on `workers`; everything else on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// [`StartupError`]. etcd that does not answer is none: it is said every few seconds, and waited for until `stop`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is registered yet; what was begun is dropped.
    pub async fn start(
        mut config: Config,
        linked: &[Plugin],
        log_level: u8,
        workers: &Handle,
        stop: &CancellationToken,
    ) -> Result<Self, StartupError> {
        let directories = config.host.directories();
        // A plugin that hangs in its constructors takes until plugins.first_look_timeout.
        let opened = or_stopped(stop, prepare::open_all(&config, linked)).await??;
        let (security, reload) = Security::of(&config.tls).map_err(StartupError::Tls)?;
        let listener = serve::Bound::new(config.server.listen)?;
        let bound = listener.address();
        let address = Address {
            advertised: config.server.advertise.clone().unwrap_or_else(|| bound.to_string()),
            bound,
            host_name: host_name(),
        };
        let view = Arc::new(HostView::new(&opened));
        let (mut admin, admin_address) = Admin::start(config.admin.listen, view.clone()).await?;
        tracing::info!(listen = %bound, advertise = %address.advertised, admin = %admin_address, "listening");

        let embedded = embedded::start(&mut config.etcd).await?;
        let (etcd, server_id) = or_stopped(stop, join(&config, &view)).await??;
        let roles: Vec<Role> = config.roles().into_iter().collect();
        let cluster = config.cluster_name().to_owned();
        let state_file = Arc::new(StateFile::open(&directories.state, &cluster, &roles)?);
        let names: Vec<&str> = roles.iter().map(Role::as_str).collect();
        let boot_id = format!("{:016x}", fastrand::u64(..));
        tracing::info!(%cluster, %server_id, boot_id, etcd = etcd.endpoint(), roles = names.join(","), "this host");

        let own_name = format!("{}-{server_id}", names.join("+"));
        let own = Arc::new(Own { cluster: cluster.clone(), server_id, boot_id });
        let served = Served::new(opened.iter().map(|member| (member.role.clone(), member.lifecycle.watch())));
        // Before anything is registered: who finds a component of this host can call it, by whichever way.
        let answers = Answers::new(own.clone(), served.clone());
        let calls = answers.clone();
        let local = LocalHost { server_id, calls: Arc::new(move |request| calls.call(request)) };
        let connections = ConnectionManager::new(ConnectionsSettings {
            config: config.connections.clone(),
            cluster,
            own: own_name,
            security: security.clone(),
            local: Some(local),
        });

        let parts = Arc::new(Parts {
            discovery: Discovery::with_ttl(etcd.clone(), &config.discovery, config.session.ttl),
            own,
            served,
            config,
            address,
            etcd,
            connections,
            state_file,
            log_level,
            stop_asked: watch::Sender::new(None),
            control: Handle::current(),
            workers: workers.clone(),
        });
        view.complete(parts.clone());
        let control: Arc<dyn Control> = Arc::new(HostControl::new(&opened, parts.clone()));
        admin.news = Some(news::begin(view.feed(), &opened, &parts));
        match Socket::bind(&directories.run, server_id) {
            Ok(socket) => admin.add_socket(socket, view, control.clone()),
            // Ids meet by chance, and nothing that the host is for needs the socket.
            Err(error) if error.is_taken() => {
                tracing::warn!(error = plugin_api::error::chain(&error), "no admin socket");
            }
            Err(error) => return Err(error.into()),
        }
        let drain = CancellationToken::new();
        let listener = {
            let _of_the_workers = workers.enter();
            listener.listen()?
        };
        let drained = drain.clone().cancelled_owned();
        let served = serve::run(listener, answers, security, drained);
        let listener = AbortOnDropHandle::new(workers.spawn(served));
        let members = opened.into_iter().map(|member| Running::start(member, parts.clone())).collect();
        let ids = AbortOnDropHandle::new(tokio::spawn(ids::guard(parts.clone())));
        let reload = reload.map(|reload| AbortOnDropHandle::new(tokio::spawn(reload.run())));
        Ok(Self { parts, members, drain, listener, admin, ids, control, reload, embedded })
    }

    /// Swaps components whose files have changed: at each of `hangups` and, with `watch`, as soon as one was rebuilt; until
    /// what is returned is dropped.
    pub fn follow_files(&self, hangups: watch::Receiver<u64>, watch: bool) -> AbortOnDropHandle<()> {
        let members: Vec<_> = self.members.iter().map(|running| running.member.clone()).collect();
        let origin = |member: &Arc<Member>| Some((member.role.clone(), member.library().origin()?.clone()));
        let origins = Arc::new(move || members.iter().filter_map(origin).collect());
        AbortOnDropHandle::new(tokio::spawn(changed::follow(self.control.clone(), origins, hangups, watch)))
    }

    /// Returns when the host cannot go on, or is not to.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn ended(&mut self) -> HostEnded {
        let mut stop_asked = self.parts.stop_asked.subscribe();
        tokio::select! {
            ended = &mut self.listener => HostEnded::ListenerFailed(match ended {
                Ok(Ok(())) => "the listener has ended".to_owned(),
                Ok(Err(error)) => plugin_api::error::chain(&error),
                Err(error) => format!("the listener's task: {error}"),
            }),
            // It cannot fail: the parts have the sender.
            asked = stop_asked.wait_for(Option::is_some) => {
                HostEnded::StopAsked(asked.ok().and_then(|why| why.clone()).unwrap_or_default())
            }
        }
    }
}

/// Why a host ends that nobody has sent a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEnded {
    /// Without its listener it is of no use.
    ListenerFailed(String),
    /// Somebody has told it through etcd, as it is configured to understand.
    StopAsked(String),
}

impl Running {
    fn start(member: Arc<Member>, parts: Arc<Parts>) -> Self {
        let stop = CancellationToken::new();
        let run = supervise::run(member.clone(), parts.clone(), stop.clone());
        let task = parts.workers.spawn(run);
        Self { member, stop, task: AbortOnDropHandle::new(task) }
    }
}

impl Admin {
    async fn start(address: SocketAddr, view: Arc<HostView>) -> Result<(Self, SocketAddr), StartupError> {
        let failed = |source| StartupError::Admin { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(admin::run(listener, view, stop.clone())));
        Ok((Self { stop, task, socket: None, news: None }, bound))
    }

    fn add_socket(&mut self, socket: Socket, view: Arc<HostView>, control: Arc<dyn Control>) {
        tracing::info!(socket = %socket.path().display(), "answering over the admin socket");
        let answers = admin::run_socket(socket, view, control, self.stop.clone());
        self.socket = Some(AbortOnDropHandle::new(tokio::spawn(answers)));
    }
}

/// Connects to etcd and takes a server id, for as long as it takes; says every few seconds what is wrong.
async fn join(config: &Config, view: &HostView) -> Result<(Etcd, ServerId), StartupError> {
    loop {
        let error: EtcdError = match Etcd::connect(&config.etcd).await {
            Ok(etcd) => match take_server_id(&etcd).await {
                Ok(server_id) => return Ok((etcd, server_id)),
                Err(SessionError::Etcd(error)) => error,
                Err(error) => return Err(StartupError::ServerId(error)),
            },
            Err(error) => error,
        };
        let (error, again_in) = (error.chain(), humantime::format_duration(ETCD_RETRY));
        view.waits_for_etcd(&error);
        tracing::warn!(error, %again_in, "etcd cannot be used yet; waiting for it");
        tokio::time::sleep(ETCD_RETRY).await;
    }
}

async fn or_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Result<T, StartupError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(StartupError::Stopped),
        done = work => Ok(done),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
