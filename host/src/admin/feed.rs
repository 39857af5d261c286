//! What happens in this host, in order: bounded, numbered, for any number of readers.
//!
//! Whoever knows of something tells it here and waits for nobody. A reader that is slow is told how much it has missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// How many events are kept for readers that come again or are slow.
const KEPT: usize = 1024;

/// How many may read at the same time: each costs a connection and what it has not read yet.
const READERS: usize = 32;

/// Everything that happens. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    /// Tells the numbers of this process from those of another.
    epoch: String,
    past: Mutex<Past>,
    readers: Arc<Semaphore>,
}

struct Past {
    /// The number of the last event; 0 before the first.
    last: u64,
    events: VecDeque<Arc<Event>>,
    sender: broadcast::Sender<Arc<Event>>,
}

/// Something that has happened.
#[derive(Debug)]
pub(super) struct Event {
    /// From 1, without a gap.
    pub number: u64,
    /// What of: `peer`, `component`, `session` or `discovery`.
    pub kind: &'static str,
    /// JSON in one line.
    pub data: String,
}

/// From where on a reader reads.
pub(super) struct Reading {
    /// What it is to be given first.
    pub first: First,
    /// The number of the last event before the receiver's first one.
    pub last: u64,
    /// All later events.
    pub receiver: broadcast::Receiver<Arc<Event>>,
}

/// What a reader is given first.
pub(super) enum First {
    /// How all stands: it begins, or so many events are not there any more; none where nobody knows how many.
    Table(Why, Option<u64>),
    /// What it has missed.
    Events(VecDeque<Arc<Event>>),
}

/// Why a reader is given a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// It has not read before.
    Begin,
    /// What followed its last event is not there any more, or was never: another process told it.
    Gap,
    /// It did not read in time.
    Slow,
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

impl Feed {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        let past = Past { last: 0, events: VecDeque::with_capacity(KEPT), sender: broadcast::Sender::new(KEPT) };
        let shared = Shared {
            epoch: format!("{:08x}", fastrand::u32(..)),
            past: Mutex::new(past),
            readers: Arc::new(Semaphore::new(READERS)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Tells all readers, and waits for none.
    pub fn tell(&self, kind: &'static str, data: &impl Serialize) {
        let data = match serde_json::to_string(data) {
            Ok(data) => data,
            Err(error) => return tracing::error!(%error, kind, "an event cannot be told"),
        };
        let mut past = self.past();
        past.last += 1;
        let event = Arc::new(Event { number: past.last, kind, data });
        if past.events.len() == KEPT {
            past.events.pop_front();
        }
        past.events.push_back(Arc::clone(&event));
        // An error only says that nobody reads.
        let _ = past.sender.send(event);
    }

    /// The room of one reader; none where there are too many.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.readers).try_acquire_owned().ok()
    }

    /// How many read now.
    pub fn readers(&self) -> usize {
        READERS - self.shared.readers.available_permits()
    }

    /// Reads on behind the event with this id, where that is possible; else from now on.
    pub(super) fn read(&self, last_id: Option<&str>) -> Reading {
        let past = self.past();
        let (last, receiver) = (past.last, past.sender.subscribe());
        let first = match last_id.map(|id| self.number(id)) {
            None => First::Table(Why::Begin, None),
            Some(Some(seen)) if seen <= last && last - seen <= past.events.len() as u64 => {
                First::Events(past.events.iter().filter(|event| event.number > seen).cloned().collect())
            }
            Some(seen) => First::Table(Why::Gap, seen.and_then(|seen| last.checked_sub(seen))),
        };
        Reading { first, last, receiver }
    }

    /// The id of the event with this number.
    pub(super) fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.shared.epoch)
    }

    fn number(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&self.shared.epoch)?.strip_prefix('-')?.parse().ok()
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // A panic while it was locked leaves whole events behind.
        self.shared.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(feed: &Feed, id: &str) -> Result<Vec<u64>, (Why, Option<u64>)> {
        match feed.read(Some(id)).first {
            First::Events(events) => Ok(events.iter().map(|event| event.number).collect()),
            First::Table(why, missed) => Err((why, missed)),
        }
    }

    #[test]
    fn a_reader_goes_on_where_it_was_or_is_told_of_the_gap() {
        let feed = Feed::new();
        let told = KEPT as u64 + 3;
        (0..told).for_each(|n| feed.tell("peer", &n));
        assert_eq!(first(&feed, &feed.id(told)), Ok(vec![]));
        assert_eq!(first(&feed, &feed.id(told - 2)), Ok(vec![told - 1, told]));
        assert_eq!(first(&feed, &feed.id(3)).map(|events| events.len()), Ok(KEPT));
        assert_eq!(first(&feed, &feed.id(2)), Err((Why::Gap, Some(told - 2))));
        // Another process', one that was never told, and none at all.
        for id in [Feed::new().id(told), feed.id(told + 1), "7".to_owned()] {
            assert_eq!(first(&feed, &id), Err((Why::Gap, None)), "{id}");
        }
        assert!(matches!(feed.read(None).first, First::Table(Why::Begin, None)));
    }

    #[test]
    fn so_many_may_read_and_no_more() {
        let feed = Feed::new();
        let mut admitted: Vec<_> = (0..READERS).map(|_| feed.admit().expect("room")).collect();
        assert!(feed.admit().is_none());
        admitted.pop();
        assert!(feed.admit().is_some());
    }
}
