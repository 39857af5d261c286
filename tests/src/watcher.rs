//! A bare watcher of a cluster's sessions: etcd's own client, and nothing of the host's code between etcd and its stamps.
//!
//! It has a thread of its own, so that whatever a test does holds up no stamp. It goes past all proxies, asks one member after
//! the other where one does not answer, and goes on from the last event that it has seen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use componenthost::cluster::Record;
use etcd_client::{Client, ConnectOptions, Error, EventType, GetOptions, KeyValue, WatchOptions};
use plugin_api::peers::Registration;
use tokio::sync::oneshot;

use crate::clock::monotonic;
use crate::cluster::Cluster;
use crate::eventually::eventually;
use crate::host::LIMIT;

/// Between two members that are asked.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a member may take to begin a watch.
const BEGIN_LIMIT: Duration = Duration::from_secs(2);

/// An event, or a key of the first list.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was received, by `CLOCK_MONOTONIC`.
    pub at: Duration,
    /// Its revision.
    pub revision: i64,
    /// Its key.
    pub key: String,
    /// The session that was put; `None` where the key was deleted, or its value is no session.
    pub session: Option<Session>,
}

/// A session that was put.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The key's value.
    pub record: Record,
    /// Which registration it is.
    pub registration: Registration,
}

impl Seen {
    /// Was the key deleted?
    pub fn is_delete(&self) -> bool {
        self.session.is_none()
    }

    /// The id of the host process whose session was put.
    pub fn server_id(&self) -> Option<i64> {
        self.session.as_ref().map(|session| session.record.server_id)
    }
}

/// All that was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The revision of the first list.
    pub from: i64,
    /// The keys of the first list, then each event, in order.
    pub seen: Vec<Seen>,
    /// Since when the watch is there; `None` while it is not.
    pub watching_since: Option<Duration>,
    /// Why events are missing, if they are: nothing can be judged by this log then.
    pub broken: Option<String>,
}

/// A watcher. It ends on drop.
pub struct Watcher {
    log: Arc<Mutex<Log>>,
    /// Dropped first, which ends the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches all sessions of a cluster from now on.
    ///
    /// # Panics
    ///
    /// Where no member of its etcd answers.
    pub async fn of(cluster: &Cluster) -> Self {
        let counter = cluster.keys().next_server_id();
        let prefix = counter.strip_suffix("id").expect("the counter lies beside the sessions").to_owned();
        let log = Arc::new(Mutex::new(Log::default()));
        let watching = Watching { endpoints: cluster.etcd().own_endpoints(), prefix, counter, log: Arc::clone(&log) };
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("watcher".to_owned()).spawn(move || watching.run(ended));
        let watcher = Self { log, end: Some(end), thread: Some(thread.expect("a thread can be started")) };
        eventually(LIMIT, async || watcher.log().watching_since.ok_or("no watch yet")).await;
        watcher
    }

    /// What was seen so far.
    ///
    /// # Panics
    ///
    /// Where the log has a gap.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(log.broken.is_none(), "the watcher has missed events: {:?}", log.broken);
        log
    }

    /// A second owner of the log, for another thread.
    pub(crate) fn shared(&self) -> Arc<Mutex<Log>> {
        Arc::clone(&self.log)
    }

    /// Waits for the first event that was received at `since` or later and for which `matches` holds.
    #[track_caller]
    pub fn sees(&self, since: Duration, matches: impl Fn(&Seen) -> bool) -> impl Future<Output = Seen> {
        eventually(LIMIT, move || {
            let log = self.log();
            let found = log.seen.iter().find(|seen| seen.at >= since && matches(seen)).cloned();
            let last = log.seen.last().cloned();
            drop(log);
            async move { found.ok_or_else(|| format!("no such event; the last is {last:?}")) }
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed where it happened.
            drop(thread.join());
        }
    }
}

/// What its thread owns.
struct Watching {
    endpoints: Vec<String>,
    prefix: String,
    /// A key beside the sessions that is none.
    counter: String,
    log: Arc<Mutex<Log>>,
}

impl Watching {
    fn run(self, ended: oneshot::Receiver<()>) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async {
            tokio::select! {
                _ = ended => {}
                () = self.watch() => {}
            }
        });
    }

    async fn watch(&self) {
        let mut next = None;
        for endpoint in self.endpoints.iter().cycle() {
            // An error is that of this member: another one is asked.
            let _: Result<(), Error> = self.watch_at(endpoint, &mut next).await;
            self.log().watching_since = None;
            if self.log().broken.is_some() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends with an error, or where the member ends the watch. `next` is the revision from which the watch goes on.
    async fn watch_at(&self, endpoint: &str, next: &mut Option<i64>) -> Result<(), Error> {
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
        let mut client = Client::connect([endpoint], Some(options)).await?;
        let from = match *next {
            Some(from) => from,
            None => {
                let options = GetOptions::new().with_prefix();
                let list = client.get(self.prefix.as_str(), Some(options)).await?;
                let revision = list.header().map_or(0, etcd_client::ResponseHeader::revision);
                let at = monotonic();
                let mut log = self.log();
                log.from = revision;
                log.seen.extend(list.kvs().iter().filter_map(|stored| self.put(at, stored)));
                *next.insert(revision + 1)
            }
        };
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let begun = tokio::time::timeout(BEGIN_LIMIT, client.watch(self.prefix.as_str(), Some(options))).await;
        let Ok(begun) = begun else { return Ok(()) };
        let mut stream = begun?;
        self.log().watching_since = Some(monotonic());
        while let Some(answer) = stream.message().await? {
            let at = monotonic();
            let mut log = self.log();
            if answer.compact_revision() > 0 {
                log.broken = Some(format!("compacted at {}", answer.compact_revision()));
                return Ok(());
            }
            for event in answer.events() {
                let Some(stored) = event.kv() else { continue };
                *next = Some(stored.mod_revision() + 1);
                match event.event_type() {
                    EventType::Put => log.seen.extend(self.put(at, stored)),
                    EventType::Delete => log.seen.push(Seen {
                        at,
                        revision: stored.mod_revision(),
                        key: String::from_utf8_lossy(stored.key()).into_owned(),
                        session: None,
                    }),
                }
            }
            if answer.canceled() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn put(&self, at: Duration, stored: &KeyValue) -> Option<Seen> {
        let key = String::from_utf8_lossy(stored.key()).into_owned();
        let registration = Registration { create_revision: stored.create_revision(), lease_id: stored.lease() };
        let record = serde_json::from_slice(stored.value()).ok();
        let session = record.map(|record| Session { record, registration });
        (key != self.counter).then_some(Seen { at, revision: stored.mod_revision(), key, session })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
