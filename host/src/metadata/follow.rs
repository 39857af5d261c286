//! A component's watch of its metadata: a task that never waits for its reader.
//!
//! One stream that is not read would in the end hold up all others of the same connection. So a reader who is too slow loses
//! the changes, and gets a new table when it has caught up.

use futures_util::{Stream, StreamExt};
use plugin_api::identity::Role;
use plugin_api::metadata::{MetadataEvent, Range};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::etcd::watch::{Change, Interruption, Stored, Update, Watch};
use crate::metadata::relative;

/// How many changes wait for a reader before a table takes their place.
const MOST_WAITING: usize = 1024;

/// The events of this watch; its task ends with the stream.
pub(super) fn follow(watch: Watch, role: Role, prefix: String) -> impl Stream<Item = MetadataEvent> + Send + use<> {
    let (sender, events) = mpsc::channel(MOST_WAITING);
    let task = AbortOnDropHandle::new(tokio::spawn(run(watch, role, prefix, sender)));
    ReceiverStream::new(events).inspect(move |_| {
        // The task lives as long as its stream.
        let _task = &task;
    })
}

async fn run(mut watch: Watch, role: Role, prefix: String, events: mpsc::Sender<MetadataEvent>) {
    loop {
        let waiting = match watch.next().await {
            Update::Table { entries, revision, .. } => {
                let entries = entries.into_iter().filter_map(|stored| relative(&prefix, stored)).collect();
                vec![MetadataEvent::Table(Range { entries, revision })]
            }
            Update::Changes(changes) => changes.into_iter().filter_map(|change| event(&prefix, change)).collect(),
            Update::Fresh => continue,
            Update::Interrupted(Interruption { why, .. }) => {
                tracing::debug!(%role, why, "a watch of metadata is made again");
                continue;
            }
        };
        for event in waiting {
            match events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    // The watch is dropped meanwhile, so that nothing waits in the connection either.
                    watch = watch.again();
                    if catch_up(&events).await.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
    }
}

/// Until the reader has taken all that waits for it.
async fn catch_up(events: &mpsc::Sender<MetadataEvent>) -> Result<(), mpsc::error::SendError<()>> {
    events.reserve_many(MOST_WAITING).await.map(|_| ())
}

fn event(prefix: &str, change: Change) -> Option<MetadataEvent> {
    match change {
        Change::Put(stored) => relative(prefix, stored).map(MetadataEvent::Put),
        Change::Delete(key, revision) => {
            let stored = Stored { key, value: Vec::new(), create_revision: 0, mod_revision: revision, lease_id: 0 };
            relative(prefix, stored).map(|gone| MetadataEvent::Delete(gone.key, revision))
        }
    }
}
