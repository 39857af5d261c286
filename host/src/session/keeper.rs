//! The task that keeps one session: has done what [`Lease`] says, and tells it what came of it and what has happened
//! meanwhile.

mod leftover;
mod news;
mod requests;
mod told;
mod work;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_api::peers::Registration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::news::News;
use self::told::{Line, Told};
use self::work::Work;
use crate::etcd::{Etcd, EtcdError};
use crate::session::SessionSettings;
use crate::session::clock::{BootTime, LONGEST_SLEEP};
use crate::session::lease::{Event, Lease, LeaseSettings, Step};
use crate::session::state_file::StateFile;
use crate::session::status::{SessionStatus, StandBy};
use crate::session::takeover::Own;
use crate::session::tally::Tally;
use crate::trouble::{Over, Trouble};

pub(super) use self::leftover::Leftover;

/// Keeps one session.
pub(super) struct Keeper {
    settings: Arc<SessionSettings>,
    key: String,
    lease: Lease,
    work: Work,
    news: News,
    trouble: Trouble,
    told: Told,
    /// Since when a standby has been told of, so that each is told of once.
    told_of_standby: Option<(BootTime, i64)>,
    status: watch::Sender<SessionStatus>,
    marked: watch::Sender<bool>,
}

impl Keeper {
    /// It follows its keys at once, on the present runtime.
    pub(super) fn new(
        etcd: Etcd,
        settings: Arc<SessionSettings>,
        stopping: watch::Receiver<bool>,
        state_file: Arc<StateFile>,
        tally: Arc<Tally>,
    ) -> Self {
        let settings_of_lease = LeaseSettings {
            own: Own {
                server_id: settings.server_id,
                address: settings.address.clone(),
                host_name: settings.host_name.clone(),
                bound: settings.bound,
            },
            key: settings.key(etcd.keys()),
            standby_key: settings.standby_key(etcd.keys()),
            on_deleted: settings.on_deleted,
        };
        let lease = Lease::new(settings_of_lease, BootTime::now(), fastrand::u64(..));
        Self {
            key: settings.key(etcd.keys()),
            status: watch::Sender::new(lease.status().clone()),
            marked: watch::Sender::new(false),
            lease,
            news: News::new(etcd.clone(), &settings, stopping),
            work: Work::new(etcd, Arc::clone(&settings), state_file, tally),
            settings,
            trouble: Trouble::default(),
            told: Told::default(),
            told_of_standby: None,
        }
    }

    /// What others are told: how the session stands, and whether its key says that the component stops.
    pub(super) fn told(&self) -> (watch::Receiver<SessionStatus>, watch::Receiver<bool>) {
        (self.status.subscribe(), self.marked.subscribe())
    }

    /// Until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Leftover {
        let turns = async {
            loop {
                self.turn().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = turns => {}
        }
        self.status.send_replace(SessionStatus::Revoked);
        self.work.leave(self.lease.lease_id())
    }

    async fn turn(&mut self) {
        self.news.tell(&mut self.lease);
        let step = self.lease.step(BootTime::now());
        self.publish();
        if let Step::Wait(until) = step {
            let sleep = until.since(BootTime::now()).min(LONGEST_SLEEP);
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.news.come() => {}
            }
            return;
        }
        let asked_holder = matches!(step, Step::AskHolder(_));
        let Some(done) = self.perform(step).await else { return };
        let event = match done {
            Ok(event) => event,
            Err(error) => self.failed(&error),
        };
        let failed = matches!(event, Event::Failed(_));
        self.lease.on(event, BootTime::now());
        if asked_holder {
            // That fails without a word, and says nothing of whether anything works.
            self.report_holder();
        } else if !failed {
            self.works();
        }
    }

    /// Does what the step says. Where news change what is to be done, a request that changes nothing in etcd is given up
    /// (`None`): an election must not wait for the answer of a member that is dead.
    async fn perform(&mut self, step: Step) -> Option<Result<Event, EtcdError>> {
        let only_asks = matches!(step, Step::ReadKey | Step::Renew { .. } | Step::AskHolder(_));
        let kind = std::mem::discriminant(&step);
        let mut done = pin!(self.work.perform(step));
        loop {
            tokio::select! {
                biased;
                done = &mut done => return Some(done),
                () = self.news.come(), if only_asks => {
                    self.news.tell(&mut self.lease);
                    if std::mem::discriminant(&self.lease.step(BootTime::now())) != kind {
                        return None;
                    }
                }
            }
        }
    }

    fn failed(&mut self, error: &EtcdError) -> Event {
        let error = error.chain();
        if let Some(failures) = self.trouble.failed(Instant::now()) {
            tracing::warn!(role = %self.settings.role, error, failures, "keeping the session: a request failed");
        }
        Event::Failed(error)
    }

    /// It works again when the session stands: in between, one request may succeed and the next fail.
    fn works(&mut self) {
        match self.lease.status() {
            SessionStatus::Held(_) | SessionStatus::StandBy(_) | SessionStatus::HeldByOther { .. } => {}
            _ => return,
        }
        if let Some(Over { lasted, failures }) = self.trouble.works(Instant::now()) {
            let (role, after) = (&self.settings.role, in_words(lasted));
            tracing::info!(%role, %after, failures, "keeping the session works again");
        }
    }

    fn publish(&mut self) {
        let status = self.lease.status();
        self.status.send_if_modified(|published| {
            if let Some(line) = self.told.line(published, status) {
                log(&self.settings, &self.key, line);
            }
            published.becomes(status, BootTime::now())
        });
        let says_stopping = self.lease.says_stopping();
        self.marked.send_if_modified(|marked| std::mem::replace(marked, says_stopping) != says_stopping);
    }

    /// Who waits without a key says so every few seconds; who stands by is where it is meant to be, and says it once.
    fn report_holder(&mut self) {
        let role = &self.settings.role;
        match self.lease.status() {
            SessionStatus::HeldByOther { since, holder } => {
                let (key, waiting) = (&self.key, in_words(since.elapsed()));
                tracing::warn!(%role, key, %waiting, "cannot register: the key is held by {holder}; waiting until it goes");
            }
            SessionStatus::StandBy(StandBy { key, since, holder, .. }) => {
                let told = Some((*since, holder.lease_id));
                if holder.lease_id == 0 {
                    // Nobody is active, nor will be: this needs somebody, and is said until they have come.
                    tracing::warn!(%role, key, "in standby, and nobody can take over: the active key is held by {holder}");
                } else if self.told_of_standby != told {
                    tracing::info!(%role, key, "in standby: the active key is held by {holder}");
                }
                self.told_of_standby = told;
            }
            _ => {}
        }
    }
}

fn log(settings: &SessionSettings, key: &str, line: Line<'_>) {
    let role = &settings.role;
    match line {
        Line::Registered(Registration { create_revision: revision, lease_id }) => {
            tracing::info!(%role, key, revision, lease = format!("{lease_id:x}"), "registered");
        }
        Line::Kept(Registration { create_revision: revision, lease_id }) => {
            let lease = format!("{lease_id:x}");
            tracing::info!(%role, key, revision, lease, "the session is certain again: etcd has kept it");
        }
        Line::Uncertain { key: its, cause } => {
            let key = its.unwrap_or(key);
            tracing::warn!(%role, key, cause, "the session is not certain any more");
        }
        Line::Deleted => {
            tracing::warn!(%role, key, "the session's key was deleted, and is not put again (session.on_deleted)");
        }
    }
}

/// In whole seconds.
fn in_words(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}
