//! A real etcd for tests: Debian's binary on free loopback ports, with knobs for what goes wrong with it.
//!
//! [`shared`] gives one server for the whole test process; each test then works under a [`Etcd::prefix`] of its own. A test
//! that stops or kills its server starts one for itself. A watchdog process removes server and data when the test process
//! ends, however it ends.

mod certificates;
mod member;
mod members;
mod settings;
mod users;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use componenthost::cluster::{Keys, Record};
use componenthost::etcd::EtcdConfig;
use etcd_client::{Client, CompactionOptions, ConnectOptions, PutOptions};
use plugin_api::identity::{Role, ServerId};
use tokio::sync::OnceCell;

pub use crate::etcd::certificates::{Certificates, Signed};
pub use crate::etcd::member::Member;
pub use crate::etcd::settings::{Settings, Tls, Token};

use crate::etcd::member::Launch;

/// How long a server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running etcd. Its members are killed, and their data removed, on drop.
pub struct Etcd {
    settings: Settings,
    members: Vec<Member>,
    /// There where hosts are served over TLS.
    certificates: Option<Certificates>,
    /// Hosts are not served.
    hidden: AtomicBool,
    /// Which cluster it is: others at the same place have other numbers, and so other ids.
    number: AtomicU64,
    /// The users are there: without them a new etcd answers everybody.
    guarded: AtomicBool,
}

/// A session that another host might have put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignSession {
    /// Its key.
    pub key: String,
    /// Its lease; nobody renews it.
    pub lease_id: i64,
    /// The revision at which its key was put.
    pub revision: i64,
}

/// The server that all tests of this process share.
///
/// # Panics
///
/// As [`Etcd::start`].
pub async fn shared() -> &'static Etcd {
    static SHARED: OnceCell<Etcd> = OnceCell::const_new();
    SHARED.get_or_init(Etcd::start).await
}

impl Etcd {
    /// Starts a server with quick settings and waits until it answers.
    ///
    /// # Panics
    ///
    /// Where there is no `etcd` in the path, or it does not answer; the text says which.
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Starts one with these settings and waits until each member answers.
    ///
    /// # Panics
    ///
    /// As [`Etcd::start`].
    pub async fn start_with(settings: Settings) -> Self {
        let members = (0..settings.members).map(|index| Member::new(index, settings.proxied)).collect();
        let certificates = settings.tls.map(|_| Certificates::make());
        let (hidden, guarded) = (AtomicBool::new(false), AtomicBool::new(false));
        let etcd = Self { settings, members, certificates, hidden, number: AtomicU64::new(1), guarded };
        etcd.launch_all().await;
        etcd.add_users().await;
        etcd
    }

    async fn launch_all(&self) {
        for member in &self.members {
            self.launch(member);
        }
        for member in &self.members {
            self.until_it_answers(member).await;
        }
    }

    fn launch(&self, member: &Member) {
        let cluster: Vec<_> = self.members.iter().map(Member::in_cluster).collect();
        member.launch(&Launch {
            cluster: &cluster.join(","),
            token: &format!("cluster-{}", self.number.load(Ordering::Relaxed)),
            flags: &self.settings.flags(self.certificates.as_ref()),
            scheme: if self.settings.tls.is_some() { "https" } else { "http" },
            hidden: self.hidden.load(Ordering::Relaxed),
            program: &self.settings.program(),
        });
    }

    async fn until_it_answers(&self, member: &Member) {
        let since = Instant::now();
        loop {
            if let Some(status) = member.has_ended() {
                let log = member.log();
                assert!(status.code() != Some(127), "no etcd in the path: install the package etcd-server\n{log}");
                panic!("etcd has ended with {status}:\n{log}");
            }
            // A linearizable read: there is a leader.
            let read = async { self.connect_to(member).await?.get("ready", None).await };
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), read).await {
                return;
            }
            assert!(since.elapsed() < START_LIMIT, "etcd does not answer within {START_LIMIT:?}:\n{}", member.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `127.0.0.1:port` of its first member, which may be its only one.
    pub fn endpoint(&self) -> String {
        self.members[0].address().to_string()
    }

    /// `127.0.0.1:port` of each member, as `etcd.endpoints` has it; with TLS as `https://127.0.0.1:port`.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.settings.tls.is_some() { "https://" } else { "" };
        self.members.iter().map(|member| format!("{scheme}{}", member.address())).collect()
    }

    /// The files for TLS.
    ///
    /// # Panics
    ///
    /// Where the settings asked for no TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("the settings ask for TLS")
    }

    /// A root path (`etcd.root_path`) that no other test has.
    pub fn prefix(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A client of its own, past all proxies and without TLS: of the first member that runs, as `root` where there are
    /// users. Connections belong to the runtime of the test that made them.
    ///
    /// # Panics
    ///
    /// Where no member runs. Without users the client connects when it is first used.
    pub async fn client(&self) -> Client {
        let running = self.members.iter().find(|member| member.runs()).expect("a member runs");
        self.client_of(running).await
    }

    fn connect_options(&self) -> ConnectOptions {
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
        match &self.settings.root_password {
            Some(password) if self.guarded.load(Ordering::Relaxed) => options.with_user("root", password),
            _ => options,
        }
    }

    /// What its members have written: warnings and errors.
    pub fn log(&self) -> String {
        self.members.iter().map(Member::log).collect()
    }

    /// Holds all members with SIGSTOP: their connections stay, and nothing answers.
    pub async fn stop(&self) {
        for member in &self.members {
            member.stop().await;
        }
    }

    /// Lets stopped members go on.
    pub fn cont(&self) {
        self.members.iter().for_each(Member::cont);
    }

    /// Ends all members with SIGKILL and waits for their end. Their data stays for [`Etcd::restart`].
    pub fn kill(&self) {
        self.members.iter().for_each(Member::kill);
    }

    /// Starts all members again, on the same ports and with their data, and waits until they answer.
    ///
    /// # Panics
    ///
    /// Where they do not answer.
    pub async fn restart(&self) {
        self.kill();
        self.launch_all().await;
    }

    /// Starts another cluster at the same place, empty and with another cluster id.
    ///
    /// # Panics
    ///
    /// As [`Etcd::restart`].
    pub async fn replace(&self) {
        self.number.fetch_add(1, Ordering::Relaxed);
        self.lose_all().await;
    }

    /// Starts all members again without their data: the same cluster id, and revisions from 1.
    ///
    /// # Panics
    ///
    /// As [`Etcd::restart`].
    pub async fn lose_all(&self) {
        self.kill();
        self.members.iter().for_each(Member::forget);
        self.guarded.store(false, Ordering::Relaxed);
        self.launch_all().await;
        self.add_users().await;
    }

    /// As a host connects to it, under a root path of its own.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn registry(&self) -> componenthost::etcd::Etcd {
        self.registry_at(&self.prefix()).await
    }

    /// As a host connects to it, under this root path.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn registry_at(&self, root_path: &str) -> componenthost::etcd::Etcd {
        let config = EtcdConfig {
            endpoints: self.endpoints(),
            root_path: root_path.to_owned(),
            request_timeout: Duration::from_secs(2),
            ..EtcdConfig::default()
        };
        componenthost::etcd::Etcd::connect(&config).await.expect("etcd answers")
    }

    /// Starts it again and serves no hosts, only [`Etcd::client`]: what is done to it now, hosts cannot watch.
    /// [`Etcd::show`] brings it back.
    ///
    /// # Panics
    ///
    /// As [`Etcd::restart`].
    pub async fn hide(&self) {
        self.hidden.store(true, Ordering::Relaxed);
        self.restart().await;
    }

    /// Ends [`Etcd::hide`].
    ///
    /// # Panics
    ///
    /// As [`Etcd::restart`].
    pub async fn show(&self) {
        self.hidden.store(false, Ordering::Relaxed);
        self.restart().await;
    }

    /// Throws away all history before the present revision, which is returned.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn compact(&self) -> i64 {
        let mut client = self.client().await;
        // A write, so that the present revision is later than all that was watched, and can be compacted.
        let put = client.put("compacted", "", None).await.expect("etcd answers a put");
        let revision = put.header().expect("each answer has a header").revision();
        let options = CompactionOptions::new().with_physical();
        client.compact(revision, Some(options)).await.expect("etcd answers a compaction");
        revision
    }

    /// Revokes a lease; its keys go with it.
    ///
    /// # Panics
    ///
    /// Where the server does not answer or does not know the lease.
    pub async fn revoke(&self, lease_id: i64) {
        self.client().await.lease_revoke(lease_id).await.expect("etcd revokes the lease");
    }

    /// Puts the session of another host, under a lease that nobody renews: the active key for an exclusive record, a
    /// member's key for another. Role and lease in the record are set here.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn put_session(&self, keys: &Keys, role: &Role, record: &Record, ttl: Duration) -> ForeignSession {
        let mut client = self.client().await;
        let seconds = i64::try_from(ttl.as_secs()).expect("a TTL is short");
        let lease_id = client.lease_grant(seconds, None).await.expect("etcd grants a lease").id();
        let key = match record.exclusive {
            true => keys.active_session(role),
            false => keys.member_session(role, ServerId(record.server_id)),
        };
        let record = Record { server_name: role.to_string(), lease_id, ..record.clone() };
        let value = serde_json::to_vec(&record).expect("a record is JSON");
        let options = PutOptions::new().with_lease(lease_id);
        let put = client.put(key.clone(), value, Some(options)).await.expect("etcd answers a put");
        ForeignSession { key, lease_id, revision: put.header().expect("each answer has a header").revision() }
    }
}
