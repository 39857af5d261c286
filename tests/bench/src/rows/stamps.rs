//! When what was published, or received from etcd: stamped by a task that does nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use componenthost::cluster::PeerTable;
use etcd_client::{Client, WatchOptions, WatchStream};
use tokio::sync::{mpsc, watch};

/// A stamp comes within this time.
const LIMIT: Duration = Duration::from_secs(60);

/// The times at which revisions came.
pub struct Stamps {
    stamps: mpsc::UnboundedReceiver<(i64, Instant)>,
}

impl Stamps {
    /// Of the tables that are published. The task ends with the last of them, or with this value.
    pub fn of_tables(mut table: watch::Receiver<Arc<PeerTable>>) -> Self {
        let (sender, stamps) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while table.changed().await.is_ok() {
                let now = Instant::now();
                let revision = table.borrow_and_update().revision;
                if sender.send((revision, now)).is_err() {
                    return;
                }
            }
        });
        Self { stamps }
    }

    /// Of the answers of a bare watch, before anything is read of them.
    pub fn of_watch(watch: WatchStream) -> Self {
        let (sender, stamps) = mpsc::unbounded_channel();
        tokio::spawn(stamp(watch, sender));
        Self { stamps }
    }

    /// The same of a watcher of its own, in a thread of its own: what is measured does not keep it from its stamps.
    pub async fn of_bare(endpoints: Vec<String>, prefix: String) -> Self {
        let (sender, stamps) = mpsc::unbounded_channel();
        let (watches, is_watching) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async move {
                let mut client = Client::connect(endpoints, None).await.expect("etcd answers");
                let options = WatchOptions::new().with_prefix();
                let watch = client.watch(prefix, Some(options)).await.expect("etcd lets watch");
                let _ = watches.send(());
                stamp(watch, sender).await;
            });
        });
        tokio::time::timeout(LIMIT, is_watching).await.expect("in time").expect("it watches");
        Self { stamps }
    }

    /// When this revision, or one after it, came.
    ///
    /// # Panics
    ///
    /// Where it does not come.
    pub async fn at(&mut self, revision: i64) -> Instant {
        loop {
            let next = tokio::time::timeout(LIMIT, self.stamps.recv()).await;
            let (came, at) = next.expect("a stamp comes").expect("the task runs");
            if came >= revision {
                return at;
            }
        }
    }
}

/// Less than zero where the second came first.
pub fn seconds_between(first: Instant, second: Instant) -> f64 {
    second.saturating_duration_since(first).as_secs_f64() - first.saturating_duration_since(second).as_secs_f64()
}

async fn stamp(mut watch: WatchStream, sender: mpsc::UnboundedSender<(i64, Instant)>) {
    while let Ok(Some(answer)) = watch.message().await {
        let now = Instant::now();
        let last = answer.events().last().and_then(|event| event.kv()).map_or(0, etcd_client::KeyValue::mod_revision);
        if sender.send((last, now)).is_err() {
            return;
        }
    }
}
