//! What a session is told without having asked: how its keys stand, and that it has to stop.

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::etcd::watch::{Change, Interruption, Keys, Patience, Update, Watch};
use crate::etcd::{Etcd, History};
use crate::session::SessionSettings;
use crate::session::clock::BootTime;
use crate::session::lease::{Event, Key, Lease, Reading};
use crate::session::takeover::Found;

/// Everything that a session's keeper hears of.
pub(super) struct News {
    main: Followed,
    standby: Option<Followed>,
    stopping: watch::Receiver<bool>,
    history: watch::Receiver<History>,
    /// How often etcd has lost its data, as far as that was told.
    losses: u64,
    following: Following,
}

/// What is needed to follow the keys anew.
struct Following {
    etcd: Etcd,
    main: String,
    standby: Option<String>,
    patience: Patience,
}

/// A key that is followed. What was seen last is all that counts.
struct Followed {
    key: Key,
    seen: watch::Receiver<Option<Reading>>,
    /// Its own task: a watch that is cancelled whenever a lease is renewed would get nowhere.
    _watching: AbortOnDropHandle<()>,
}

impl News {
    pub(super) fn new(etcd: Etcd, settings: &SessionSettings, stopping: watch::Receiver<bool>) -> Self {
        let patience = Patience { ask_after: settings.ttl / 3, answer_within: settings.ttl / 6 };
        let (main, standby) = (settings.key(etcd.keys()), settings.standby_key(etcd.keys()));
        let history = etcd.history();
        let losses = history.borrow().losses;
        let following = Following { etcd, main, standby, patience };
        let (main, standby) = following.start();
        Self { main, standby, stopping, history, losses, following }
    }

    /// Tells all that is known. Told again and again: what was ignored in one state may matter in the next.
    pub(super) fn tell(&mut self, lease: &mut Lease) {
        let now = BootTime::now();
        let losses = self.history.borrow_and_update().losses;
        if std::mem::replace(&mut self.losses, losses) != losses {
            // What was seen of the lost etcd has higher revisions than anything to come, and would be believed for ever.
            (self.main, self.standby) = self.following.start();
            lease.on(Event::HistoryLost, now);
        }
        if *self.stopping.borrow_and_update() {
            lease.on(Event::Stopping, now);
        }
        for followed in std::iter::once(&mut self.main).chain(&mut self.standby) {
            if let Some(reading) = followed.seen.borrow_and_update().clone() {
                lease.on(Event::Seen(followed.key, reading), now);
            }
        }
    }

    /// Returns when there are news since they were last told.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn come(&mut self) {
        tokio::select! {
            () = changed(&mut self.main.seen) => {}
            () = async { match &mut self.standby {
                Some(standby) => changed(&mut standby.seen).await,
                None => std::future::pending().await,
            } } => {}
            () = changed(&mut self.stopping) => {}
            () = changed(&mut self.history) => {}
        }
    }
}

impl Following {
    fn start(&self) -> (Followed, Option<Followed>) {
        let follow = |key, name: &String| {
            Followed::new(key, Watch::new(self.etcd.clone(), Keys::One(name.clone()), self.patience))
        };
        (follow(Key::Main, &self.main), self.standby.as_ref().map(|name| follow(Key::Standby, name)))
    }
}

impl Followed {
    /// On the present runtime.
    fn new(key: Key, watch: Watch) -> Self {
        let (sender, seen) = watch::channel(None);
        Self { key, seen, _watching: AbortOnDropHandle::new(tokio::spawn(follow(watch, sender))) }
    }
}

/// Follows a key and publishes the last that is known of it.
async fn follow(mut watch: Watch, seen: watch::Sender<Option<Reading>>) {
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
            Update::Interrupted(Interruption { why, .. }) => {
                tracing::debug!(why, "the watch of a key of the session is made again");
                continue;
            }
        };
        seen.send_replace(Some(reading));
    }
}

/// Never returns where nobody is there any more to change it.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
