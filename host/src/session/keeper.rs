//! The task that keeps one session: does what [`Lease`] says, and tells it what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::etcd::lease::KeepAlive;
use crate::etcd::watch::{Change, Keys, Patience, Stored, Update, Watch};
use crate::etcd::{Etcd, EtcdError};
use crate::session::SessionSettings;
use crate::session::clock::{BootTime, LONGEST_SLEEP};
use crate::session::lease::{Event, Lease, Reading, Step};
use crate::session::state_file::{Entry, StateFile};
use crate::session::status::{Held, SessionStatus};
use crate::session::takeover::{Found, Own};

/// Keeps one session.
pub(super) struct Keeper {
    etcd: Etcd,
    settings: Arc<SessionSettings>,
    stopping: Arc<AtomicBool>,
    state_file: Arc<StateFile>,
    key: String,
    lease: Lease,
    keep_alive: Option<KeepAlive>,
    status: watch::Sender<SessionStatus>,
}

/// What is left of a session when its keeper ends.
pub(super) struct Leftover {
    etcd: Etcd,
    state_file: Arc<StateFile>,
    lease_id: Option<i64>,
}

impl Keeper {
    pub(super) fn new(
        etcd: Etcd,
        settings: Arc<SessionSettings>,
        stopping: Arc<AtomicBool>,
        state_file: Arc<StateFile>,
    ) -> (Self, watch::Receiver<SessionStatus>) {
        let key = settings.key(etcd.keys());
        let own = Own {
            server_id: settings.server_id,
            address: settings.address.clone(),
            host_name: settings.host_name.clone(),
            bound: settings.bound,
        };
        let lease = Lease::new(own, key.clone(), BootTime::now(), fastrand::u64(..));
        let (status, receiver) = watch::channel(lease.status().clone());
        (Self { etcd, settings, stopping, state_file, key, lease, keep_alive: None, status }, receiver)
    }

    /// Until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Leftover {
        let (seen_sender, mut seen) = watch::channel(None);
        // Its own task: a watch that is cancelled whenever a lease is renewed would get nowhere.
        let _watching = AbortOnDropHandle::new(tokio::spawn(watch_key(self.watch(), seen_sender)));
        let work = async {
            loop {
                self.turn(&mut seen).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        self.status.send_replace(SessionStatus::Revoked);
        Leftover { lease_id: self.lease.lease_id(), etcd: self.etcd, state_file: self.state_file }
    }

    fn watch(&self) -> Watch {
        let patience = Patience { ask_after: self.settings.ttl / 3, answer_within: self.settings.ttl / 6 };
        Watch::new(self.etcd.clone(), Keys::One(self.key.clone()), patience)
    }

    async fn turn(&mut self, seen: &mut watch::Receiver<Option<Reading>>) {
        // Told again and again: what was ignored in one state may matter in the next.
        if let Some(reading) = seen.borrow_and_update().clone() {
            self.lease.on(Event::Seen(reading), BootTime::now());
        }
        let step = self.lease.step(BootTime::now());
        self.publish();
        if let Step::Wait(until) = step {
            let sleep = until.since(BootTime::now()).min(LONGEST_SLEEP);
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                _ = seen.changed() => {}
            }
            return;
        }
        let event = match self.perform(step).await {
            Ok(event) => event,
            Err(error) => self.failed(error),
        };
        let asked_holder = matches!(event, Event::HolderAsked(_));
        self.lease.on(event, BootTime::now());
        if asked_holder {
            self.report_holder();
        }
    }

    async fn perform(&mut self, step: Step) -> Result<Event, EtcdError> {
        match step {
            Step::ClearFormer => self.clear_former().await,
            Step::ReadKey => {
                let answer = self.etcd.get(format!("read '{}'", self.key), self.key.as_str(), None).await?;
                let revision = answer.header().map_or(0, ResponseHeader::revision);
                Ok(Event::Read(Reading { found: found(answer.kvs()), revision }))
            }
            Step::Grant => {
                let sent = BootTime::now();
                let granted = self.etcd.grant_lease(self.settings.ttl).await?;
                self.remember(granted.lease_id);
                Ok(Event::Granted { lease_id: granted.lease_id, ttl: granted.ttl, sent })
            }
            Step::Put(lease_id) => self.put(lease_id).await,
            Step::Renew { lease_id, hedge_after: _, limit } => self.renew(lease_id, limit).await,
            Step::Clear { lease_id, mod_revision } => self.clear(lease_id, mod_revision).await,
            Step::Drop(lease_id) => {
                // It holds no key: that it runs out by itself does no harm.
                if self.etcd.revoke_lease(lease_id).await.is_ok() {
                    self.forget(lease_id);
                }
                Ok(Event::Dropped)
            }
            Step::AskHolder(0) | Step::Wait(_) => Ok(Event::HolderAsked(None)),
            Step::AskHolder(lease_id) => Ok(Event::HolderAsked(self.etcd.time_left(lease_id).await?)),
        }
    }

    async fn clear_former(&self) -> Result<Event, EtcdError> {
        for Entry { server_id, key, lease_id, .. } in self.state_file.former(&self.settings.role) {
            // We hold the file's lock, so that process is dead.
            if self.etcd.revoke_lease(lease_id).await? {
                tracing::info!(key, former = %server_id, "took over from this host's former process, which is dead");
            }
            self.forget(lease_id);
        }
        Ok(Event::FormerCleared)
    }

    async fn put(&self, lease_id: i64) -> Result<Event, EtcdError> {
        let absent = Compare::create_revision(self.key.as_str(), CompareOp::Equal, 0);
        let value = self.settings.value(lease_id, self.stopping.load(Ordering::SeqCst));
        let put = TxnOp::put(self.key.as_str(), value, Some(PutOptions::new().with_lease(lease_id)));
        let txn = Txn::new().when([absent]).and_then([put]).or_else([TxnOp::get(self.key.as_str(), None)]);
        let answer = self.etcd.txn(format!("register '{}'", self.key), txn).await?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        if answer.succeeded() {
            return Ok(Event::Put(revision));
        }
        Ok(Event::NotPut(Reading { found: found_in(&answer), revision }))
    }

    async fn renew(&mut self, lease_id: i64, limit: Duration) -> Result<Event, EtcdError> {
        let mut keep_alive = match self.keep_alive.take() {
            Some(open) if open.lease_id() == lease_id => open,
            _ => KeepAlive::new(self.etcd.clone(), lease_id),
        };
        let sent = BootTime::now();
        let answer = keep_alive.renew(limit).await;
        self.keep_alive = Some(keep_alive);
        Ok(match answer? {
            Some(ttl) => Event::Renewed { ttl, sent },
            None => {
                self.forget(lease_id);
                Event::LeaseGone
            }
        })
    }

    async fn clear(&self, lease_id: Option<i64>, mod_revision: i64) -> Result<Event, EtcdError> {
        if let Some(lease_id) = lease_id.filter(|lease_id| *lease_id != 0) {
            self.etcd.revoke_lease(lease_id).await?;
            self.forget(lease_id);
        }
        let unchanged = Compare::mod_revision(self.key.as_str(), CompareOp::Equal, mod_revision);
        let txn = Txn::new().when([unchanged]).and_then([TxnOp::delete(self.key.as_str(), None)]);
        let answer = self.etcd.txn(format!("remove '{}'", self.key), txn).await?;
        if answer.succeeded() {
            tracing::info!(key = self.key, mod_revision, "removed the key of a process that is no more");
        }
        Ok(Event::Cleared)
    }

    fn failed(&self, error: EtcdError) -> Event {
        let error = error.chain();
        tracing::warn!(role = %self.settings.role, error, "keeping the session: a request failed");
        Event::Failed(error)
    }

    /// Before the key is put: no crash may leave a key behind that the state file does not name.
    fn remember(&self, lease_id: i64) {
        let SessionSettings { role, server_id, .. } = &*self.settings;
        let entry = Entry { role: role.clone(), server_id: *server_id, key: self.key.clone(), lease_id };
        self.warn_of(self.state_file.add(entry));
    }

    fn forget(&self, lease_id: i64) {
        self.warn_of(self.state_file.remove(lease_id));
    }

    /// Without the file a restart after a crash waits for the lease to run out; nothing is wrong otherwise.
    fn warn_of(&self, written: std::io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(file = %self.state_file.path().display(), %error, "the state file cannot be written");
        }
    }

    fn publish(&self) {
        let status = self.lease.status();
        self.status.send_if_modified(|published| {
            let differs = published.differs_from(status);
            if differs {
                self.log(status);
            }
            // A later deadline is stored, and wakes nobody.
            if published != status {
                published.clone_from(status);
            }
            differs
        });
    }

    fn log(&self, status: &SessionStatus) {
        let (role, key) = (&self.settings.role, &self.key);
        match status {
            SessionStatus::Held(Held { registration, .. }) => {
                let Self { lease, .. } = self;
                let lease_id = lease.lease_id();
                tracing::info!(%role, key, revision = registration.create_revision, lease_id, "registered");
            }
            SessionStatus::Lost { cause, .. } => {
                tracing::warn!(%role, key, cause, "the session is not certain any more")
            }
            // A holder is reported every few seconds, and the first failures where they happen.
            SessionStatus::Registering { .. } | SessionStatus::HeldByOther { .. } | SessionStatus::Revoked => {}
            SessionStatus::StandBy(_) | SessionStatus::Deleted { .. } => {}
        }
    }

    fn report_holder(&self) {
        if let SessionStatus::HeldByOther { since, holder } = self.lease.status() {
            let waiting = humantime::format_duration(Duration::from_secs(since.elapsed().as_secs()));
            let (role, key) = (&self.settings.role, &self.key);
            tracing::warn!(%role, key, %waiting, "cannot register: the key is held by {holder}; waiting until it goes");
        }
    }
}

impl Leftover {
    /// Ends the lease; the key goes with it.
    pub(super) async fn revoke(self) {
        let Some(lease_id) = self.lease_id else {
            return;
        };
        match self.etcd.revoke_lease(lease_id).await {
            Ok(_) => {
                if let Err(error) = self.state_file.remove(lease_id) {
                    tracing::warn!(file = %self.state_file.path().display(), %error, "the state file cannot be written");
                }
            }
            Err(error) => tracing::warn!(error = error.chain(), "the session's lease is left to run out"),
        }
    }
}

/// Follows the session's key and publishes the last that is known of it.
async fn watch_key(mut watch: Watch, seen: watch::Sender<Option<Reading>>) {
    loop {
        let reading = match watch.next().await {
            Update::Table { entries, revision, .. } => Reading { found: entries.first().map(Found::from), revision },
            Update::Changes(changes) => match changes.last() {
                Some(Change::Put(stored)) => {
                    Reading { found: Some(Found::from(stored)), revision: stored.mod_revision }
                }
                Some(Change::Delete(_, revision)) => Reading { found: None, revision: *revision },
                None => continue,
            },
            Update::Fresh => continue,
            Update::Interrupted(why) => {
                tracing::debug!(why, "the watch of the session's own key is made again");
                continue;
            }
        };
        seen.send_replace(Some(reading));
    }
}

fn found(entries: &[etcd_client::KeyValue]) -> Option<Found> {
    entries.first().map(|stored| Found::from(&Stored::from(stored)))
}

fn found_in(answer: &TxnResponse) -> Option<Found> {
    answer.op_responses().first().and_then(|response| match response {
        TxnOpResponse::Get(answer) => found(answer.kvs()),
        _ => None,
    })
}
