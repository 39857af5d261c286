//! Keys that are followed: one list, then a watch from the same answer's revision + 1, for as long as it takes.
//!
//! A watch of etcd ends with its connection, and can be silent for ever without an error. [`Watch`] makes it again, says each
//! time why, and lists again where etcd has thrown its history away, so that its user sees every change, or else a new table
//! to compare with. What the keys mean is the user's business: `discovery`, `session` and `metadata`.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, GetOptions, ResponseHeader, WatchOptions, WatchResponse, WatchStream};

use crate::etcd::member::Member;
use crate::etcd::{Etcd, EtcdError, Fault};

/// Pauses between tries to make the watch again: doubled from the first to the last, each shortened by up to a half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(3);

/// A key as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision at which it was created.
    pub create_revision: i64,
    /// The revision of its last change.
    pub mod_revision: i64,
    /// The lease that holds it; 0 for none.
    pub lease_id: i64,
}

/// A change of a followed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was set.
    Put(Stored),
    /// It was removed, at this revision.
    Delete(Vec<u8>, i64),
}

/// What a followed range of keys has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// All keys at a revision: first of all, and after history was lost.
    Table {
        /// The keys, in order.
        entries: Vec<Stored>,
        /// The revision of etcd.
        revision: i64,
    },
    /// The changes of one answer, in order. The last one's revision is the answer's.
    Changes(Vec<Change>),
    /// Nothing has changed up to now.
    Fresh,
    /// The watch is broken and will be made again.
    Interrupted(String),
}

/// When a silent watch is taken for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// After so long without a word etcd is asked for a sign of life.
    pub ask_after: Duration,
    /// So long it may take to give one.
    pub answer_within: Duration,
}

/// Which keys are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// This one.
    One(String),
    /// All that begin so.
    Prefix(String),
}

/// Keys that are followed.
pub struct Watch {
    etcd: Etcd,
    keys: Keys,
    patience: Patience,
    state: State,
    /// How many times in a row it failed.
    failures: u32,
    /// etcd's cluster as the list had it: another one has other keys.
    cluster_id: u64,
}

enum State {
    /// The keys are to be listed.
    Unlisted,
    /// The watch is to be made, from this revision on.
    Unwatched { from: i64 },
    /// Changes come; the next one's revision is at least `next`.
    Watching { next: i64, member: Arc<Member>, stream: Box<WatchStream> },
}

/// Why the watch is broken, and from where it goes on.
struct Break {
    why: String,
    then: State,
    /// The member is the cause.
    leave: Option<Arc<Member>>,
}

impl Change {
    /// The revision at which it happened.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Put(stored) => stored.mod_revision,
            Self::Delete(_, revision) => *revision,
        }
    }
}

impl Keys {
    fn name(&self) -> &str {
        match self {
            Self::One(name) | Self::Prefix(name) => name,
        }
    }
}

impl From<&etcd_client::KeyValue> for Stored {
    fn from(stored: &etcd_client::KeyValue) -> Self {
        Self {
            key: stored.key().to_vec(),
            value: stored.value().to_vec(),
            create_revision: stored.create_revision(),
            mod_revision: stored.mod_revision(),
            lease_id: stored.lease(),
        }
    }
}

impl Watch {
    /// Follows these keys. Nothing is sent before the first [`Watch::next`].
    pub fn new(etcd: Etcd, keys: Keys, patience: Patience) -> Self {
        Self { etcd, keys, patience, state: State::Unlisted, failures: 0, cluster_id: 0 }
    }

    /// The same from the beginning: its first update is a table.
    pub fn again(self) -> Self {
        Self::new(self.etcd, self.keys, self.patience)
    }

    /// What comes next. It never fails and never ends: what breaks is told, and made again by the next call.
    ///
    /// # Cancel safety
    ///
    /// Cancelled calls lose nothing, but one that is cancelled again and again before etcd answers gets nowhere.
    pub async fn next(&mut self) -> Update {
        if self.failures > 0 && !matches!(self.state, State::Watching { .. }) {
            tokio::time::sleep(pause(self.failures)).await;
        }
        loop {
            let step = match &mut self.state {
                State::Unlisted => self.list().await.map(Some),
                State::Unwatched { from } => {
                    let from = *from;
                    self.open(from).await.map(|()| None)
                }
                State::Watching { .. } => self.follow().await.map(Some),
            };
            match step {
                Ok(Some(update)) => {
                    self.failures = 0;
                    return update;
                }
                Ok(None) => {}
                Err(broken) => {
                    self.failures = self.failures.saturating_add(1);
                    self.state = broken.then;
                    if let Some(member) = broken.leave {
                        self.etcd.leave(&member).await;
                    }
                    return Update::Interrupted(broken.why);
                }
            }
        }
    }

    async fn list(&mut self) -> Result<Update, Break> {
        let options = match &self.keys {
            Keys::One(_) => GetOptions::new(),
            Keys::Prefix(_) => GetOptions::new().with_prefix(),
        };
        let doing = format!("list '{}'", self.keys.name());
        let answer = self.etcd.get(doing, self.keys.name(), Some(options)).await;
        let answer = answer.map_err(|error| Break { why: error.chain(), then: State::Unlisted, leave: None })?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        self.cluster_id = answer.header().map_or(0, ResponseHeader::cluster_id);
        self.state = State::Unwatched { from: revision + 1 };
        Ok(Update::Table { entries: answer.kvs().iter().map(Stored::from).collect(), revision })
    }

    async fn open(&mut self, from: i64) -> Result<(), Break> {
        let options = WatchOptions::new().with_start_revision(from);
        let options = match &self.keys {
            Keys::One(_) => options,
            Keys::Prefix(_) => options.with_prefix(),
        };
        let (key, member) = (self.keys.name().to_owned(), self.etcd.member());
        let doing = format!("watch '{key}'");
        let opened = self.etcd.bounded(doing, self.etcd.request_timeout(), |member| {
            let mut watch = member.watch.clone();
            async move { watch.watch(key, Some(options)).await }
        });
        match opened.await {
            Ok(stream) => {
                self.state = State::Watching { next: from, member, stream: Box::new(stream) };
                Ok(())
            }
            Err(error) => Err(Break { why: error.chain(), then: State::Unwatched { from }, leave: None }),
        }
    }

    async fn follow(&mut self) -> Result<Update, Break> {
        let State::Watching { next, member, stream } = &mut self.state else {
            return Err(Break { why: "not watched".to_owned(), then: State::Unlisted, leave: None });
        };
        let broken = |fault: Fault, from: i64, member: &Arc<Member>| {
            let leave = fault.is_the_members().then(|| Arc::clone(member));
            let doing = format!("watch '{}'", self.keys.name()).into();
            let error = EtcdError { doing, endpoint: member.endpoint.clone(), fault };
            Break { why: error.chain(), then: State::Unwatched { from }, leave }
        };
        loop {
            let answer = match hear(stream, self.patience).await {
                Ok(answer) => answer,
                Err(fault) => return Err(broken(fault, *next, member)),
            };
            match judge(&answer, *next, self.cluster_id) {
                Verdict::Nothing => {}
                Verdict::Fresh => return Ok(Update::Fresh),
                Verdict::Changes(changes) => {
                    // Never from the answer's own revision: that of a `created` or `canceled` one is not ours.
                    *next = changes.last().map_or(*next, |last| last.revision() + 1);
                    return Ok(Update::Changes(changes));
                }
                Verdict::Canceled(why) => {
                    return Err(Break { why, then: State::Unwatched { from: *next }, leave: Some(Arc::clone(member)) });
                }
                Verdict::HistoryLost(why) => return Err(Break { why, then: State::Unlisted, leave: None }),
            }
        }
    }
}

/// What an answer of a watch means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Fresh,
    Changes(Vec<Change>),
    Canceled(String),
    HistoryLost(String),
}

fn judge(answer: &WatchResponse, next: i64, cluster_id: u64) -> Verdict {
    if answer.compact_revision() != 0 {
        let compacted = answer.compact_revision();
        return Verdict::HistoryLost(format!("etcd has compacted its history up to {compacted}, past {next}"));
    }
    if answer.canceled() {
        return Verdict::Canceled(format!("etcd has cancelled the watch: {}", answer.cancel_reason()));
    }
    if answer.created() {
        // Its revision is that of a member which may lag behind the one that gave the list.
        return Verdict::Nothing;
    }
    let (revision, cluster) = answer.header().map_or((0, 0), |header| (header.revision(), header.cluster_id()));
    if cluster != cluster_id {
        return Verdict::HistoryLost("this etcd is another cluster than before".to_owned());
    }
    if revision + 1 < next {
        return Verdict::HistoryLost(format!("etcd's revision went backwards, from {} to {revision}", next - 1));
    }
    let changes: Vec<_> = answer.events().iter().filter_map(change).collect();
    if changes.is_empty() { Verdict::Fresh } else { Verdict::Changes(changes) }
}

fn change(event: &etcd_client::Event) -> Option<Change> {
    let stored = event.kv()?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(Stored::from(stored)),
        EventType::Delete => Change::Delete(stored.key().to_vec(), stored.mod_revision()),
    })
}

/// The stream's next answer. A silent one is asked for a sign of life: an HTTP/2 ping does not notice that a member is cut
/// off from its cluster.
async fn hear(stream: &mut WatchStream, patience: Patience) -> Result<WatchResponse, Fault> {
    let answer = match tokio::time::timeout(patience.ask_after, stream.message()).await {
        Ok(answer) => answer,
        Err(_) => {
            stream.request_progress().await.map_err(|_| Fault::StreamEnded)?;
            let answer = tokio::time::timeout(patience.answer_within, stream.message()).await;
            answer.map_err(|_| Fault::NoAnswer(patience.answer_within))?
        }
    };
    answer.map_err(Fault::of)?.ok_or(Fault::StreamEnded)
}

fn pause(failures: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_PAUSE);
    longest.mul_f64(1.0 - fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        for failures in 1..100 {
            let pause = pause(failures);
            assert!(pause >= FIRST_PAUSE / 2 && pause <= LAST_PAUSE, "{failures}: {pause:?}");
        }
        assert!(pause(30) >= LAST_PAUSE / 2);
    }
}
