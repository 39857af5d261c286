//! A session's requests to etcd, one for each step of its machine.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Txn;

use super::leftover::Leftover;
use super::requests::{Requests, readings, revision};
use crate::etcd::lease::KeepAlive;
use crate::etcd::{Etcd, EtcdError, Fault};
use crate::session::SessionSettings;
use crate::session::clock::BootTime;
use crate::session::lease::{Event, Key, Step};
use crate::session::state_file::{Entry, StateFile};
use crate::session::tally::Tally;

/// Does what a session's machine asks for.
pub(super) struct Work {
    etcd: Etcd,
    settings: Arc<SessionSettings>,
    state_file: Arc<StateFile>,
    tally: Arc<Tally>,
    requests: Requests,
    /// How long a transaction may take: a silent member must leave enough of the lease's time for another try.
    limit: Duration,
}

impl Work {
    pub(super) fn new(
        etcd: Etcd,
        settings: Arc<SessionSettings>,
        state_file: Arc<StateFile>,
        tally: Arc<Tally>,
    ) -> Self {
        let requests = Requests { main: settings.key(etcd.keys()), standby: settings.standby_key(etcd.keys()) };
        let limit = etcd.request_timeout().min(settings.ttl / 3);
        Self { etcd, settings, state_file, tally, requests, limit }
    }

    /// The end of the work: what is left is the lease.
    pub(super) fn leave(self, lease_id: Option<i64>) -> Leftover {
        Leftover { etcd: self.etcd, state_file: self.state_file, lease_id }
    }

    /// Does what the step says.
    ///
    /// # Errors
    ///
    /// etcd's. That a lease is not there is none, but the event that says so.
    ///
    /// # Cancel safety
    ///
    /// Of a step that changes something in etcd nobody knows whether it was carried out.
    pub(super) async fn perform(&self, step: Step) -> Result<Event, EtcdError> {
        let lease_id = match step {
            Step::Put { lease_id, .. } | Step::PutStandby { lease_id, .. } | Step::Mark { lease_id, .. } => lease_id,
            _ => 0,
        };
        match self.ask(step).await {
            Err(error) if lease_id != 0 && matches!(error.fault(), Fault::LeaseNotFound) => {
                self.forget(lease_id);
                Ok(Event::LeaseGone)
            }
            done => done,
        }
    }

    async fn ask(&self, step: Step) -> Result<Event, EtcdError> {
        match step {
            Step::ClearFormer => self.clear_former().await,
            Step::ReadKey => {
                let doing = format!("read '{}'", self.requests.main);
                let answer = self.etcd.txn_within(doing, self.requests.read(), self.limit).await?;
                Ok(Event::Read(readings(&answer)))
            }
            Step::Grant => {
                let sent = BootTime::now();
                let granted = self.etcd.grant_lease(self.settings.ttl).await?;
                self.tally.lives_for(granted.ttl);
                self.remember(granted.lease_id);
                Ok(Event::Granted { lease_id: granted.lease_id, ttl: granted.ttl, sent })
            }
            Step::Put { lease_id, stopping, standby } => {
                let txn = self.requests.put(self.settings.value(lease_id, stopping), lease_id, standby);
                self.put(Key::Main, txn, stopping).await
            }
            Step::PutStandby { lease_id, stopping, active } => {
                let txn = self.requests.put_standby(self.settings.value(lease_id, stopping), lease_id, active);
                self.put(Key::Standby, txn, stopping).await
            }
            Step::Mark { key, lease_id, create_revision } => {
                let value = self.settings.value(lease_id, true);
                let txn = self.requests.update(key, value, lease_id, create_revision);
                let doing = format!("mark '{}' as stopping", self.requests.name(key));
                let answer = self.etcd.txn_within(doing, txn, self.limit).await?;
                Ok(if answer.succeeded() { Event::Marked } else { Event::NotPut(readings(&answer)) })
            }
            Step::Renew { lease_id, hedge_after, limit } => self.renew(lease_id, hedge_after, limit).await,
            Step::Clear { key, lease_id, mod_revision } => self.clear(key, lease_id, mod_revision).await,
            Step::Drop(lease_id) => {
                // It holds no key: that it runs out by itself does no harm.
                if self.etcd.revoke_lease(lease_id).await.is_ok() {
                    self.forget(lease_id);
                }
                Ok(Event::Dropped)
            }
            Step::AskHolder(0) | Step::Wait(_) => Ok(Event::HolderAsked(None)),
            Step::AskHolder(lease_id) => {
                // For people only: it must neither fail anything nor keep a renewal waiting.
                let asked = tokio::time::timeout(self.settings.ttl / 6, self.etcd.time_left(lease_id)).await;
                Ok(Event::HolderAsked(asked.ok().and_then(Result::ok).flatten()))
            }
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

    async fn put(&self, key: Key, txn: Txn, stopping: bool) -> Result<Event, EtcdError> {
        let doing = format!("register '{}'", self.requests.name(key));
        let answer = self.etcd.txn_within(doing, txn, self.limit).await?;
        Ok(match answer.succeeded() {
            true => Event::Put { revision: revision(&answer), stopping },
            false => Event::NotPut(readings(&answer)),
        })
    }

    async fn renew(&self, lease_id: i64, hedge_after: Duration, limit: Duration) -> Result<Event, EtcdError> {
        let sent = BootTime::now();
        let answer = KeepAlive::new(self.etcd.clone(), lease_id).renew(hedge_after, limit).await;
        Ok(match answer.inspect_err(|_| self.tally.renewal_failed())? {
            Some(ttl) => {
                self.tally.lives_for(ttl);
                self.tally.renewed(sent.elapsed() >= hedge_after);
                Event::Renewed { ttl, sent }
            }
            None => {
                self.forget(lease_id);
                Event::LeaseGone
            }
        })
    }

    async fn clear(&self, key: Key, lease_id: Option<i64>, mod_revision: i64) -> Result<Event, EtcdError> {
        if let Some(lease_id) = lease_id {
            self.etcd.revoke_lease(lease_id).await?;
            self.forget(lease_id);
        }
        let name = self.requests.name(key);
        let removal = self.requests.remove(key, mod_revision);
        let answer = self.etcd.txn_within(format!("remove '{name}'"), removal, self.limit).await?;
        if answer.succeeded() {
            tracing::info!(key = name, mod_revision, "removed a key that nobody living has");
        }
        Ok(Event::Cleared)
    }

    /// Before the key is put: no crash may leave a key behind that the state file does not name.
    fn remember(&self, lease_id: i64) {
        let SessionSettings { role, server_id, .. } = &*self.settings;
        let key = self.requests.main.clone();
        self.warn_of(self.state_file.add(Entry { role: role.clone(), server_id: *server_id, key, lease_id }));
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
}
