//! Keys that are followed: one list, then a watch from the same answer's revision + 1, for as long as it takes.
//!
//! A watch of etcd ends with its connection, and can be silent for ever without an error. [`Watch`] makes it again, says each
//! time why, and lists again where etcd has thrown its history away, so that its user sees every change, or else a new table
//! to compare with. When to do what is decided in [`resume`], without I/O; here it is done. What the keys mean is the user's
//! business: `discovery`, `session` and `metadata`.

pub mod resume;

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{EventType, GetOptions, ResponseHeader, WatchOptions, WatchResponse, WatchStream};

use self::resume::{Answer, Came, Listed, Moment, Reset, Resume, Step};
use crate::etcd::member::Member;
use crate::etcd::{Etcd, EtcdError, Fault};

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
        /// etcd is not the one that it was before: nothing that was known of it holds.
        reset: Option<Reset>,
    },
    /// The changes of one answer, in order. The last one's revision is the answer's.
    Changes(Vec<Change>),
    /// Nothing has changed up to now.
    Fresh,
    /// The watch is broken and will be made again.
    Interrupted(Interruption),
}

/// Why a watch is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// For programs.
    pub cause: Cause,
    /// For people.
    pub why: String,
}

/// What kind of thing has ended a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The keys could not be listed, or no watch of them opened.
    Unreachable,
    /// The stream of a watch, or its connection, broke.
    Lost,
    /// No sign of life came in time.
    Silent,
    /// etcd ended it.
    Cancelled,
    /// etcd has thrown away the history that would have come next.
    Compacted,
    /// etcd is not the one that it was.
    Reset,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unreachable, Self::Lost, Self::Silent, Self::Cancelled, Self::Compacted, Self::Reset];

    /// The word for it, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Cancelled => "cancelled",
            Self::Compacted => "compacted",
            Self::Reset => "reset",
        }
    }
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
    resume: Resume,
    /// The answers of the watch that was opened last, and who gives them.
    stream: Option<(Arc<Member>, Box<WatchStream>)>,
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

impl Patience {
    /// How old what is known can be before its watch is found dead.
    pub fn limit(&self) -> Duration {
        self.ask_after + self.answer_within
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

impl From<&WatchResponse> for Answer {
    fn from(answer: &WatchResponse) -> Self {
        let header = answer.header();
        Self {
            created: answer.created(),
            canceled: answer.canceled().then(|| answer.cancel_reason().to_owned()),
            compact_revision: answer.compact_revision(),
            revision: header.map_or(0, ResponseHeader::revision),
            cluster_id: header.map_or(0, ResponseHeader::cluster_id),
            changes: answer.events().iter().filter_map(change).collect(),
        }
    }
}

impl Watch {
    /// Follows these keys. Nothing is sent before the first [`Watch::next`].
    pub fn new(etcd: Etcd, keys: Keys, patience: Patience) -> Self {
        Self { etcd, keys, resume: Resume::new(patience), stream: None }
    }

    /// The same from the beginning: its first update is a table.
    pub fn again(mut self) -> Self {
        self.list_again();
        self
    }

    /// The next update is a table, whatever is known.
    pub fn list_again(&mut self) {
        self.resume.again();
        self.stream = None;
    }

    /// What comes next. It never fails and never ends: what breaks is told, and made again by the next call.
    ///
    /// # Cancel safety
    ///
    /// Cancelled calls lose nothing, but one that is cancelled again and again before etcd answers gets nowhere.
    pub async fn next(&mut self) -> Update {
        loop {
            let came = match self.resume.step(Instant::now()) {
                Step::Pause { until } => {
                    tokio::time::sleep_until(until.into()).await;
                    continue;
                }
                Step::List => self.list().await,
                Step::Open { from } => self.open(from).await,
                Step::Listen { until } => self.listen(until).await,
                Step::AskProgress => self.ask_progress().await,
                Step::ReadRevision { within } => self.read_revision(within).await,
                Step::Leave => self.leave().await,
            };
            let moment = Moment { now: Instant::now(), chance: fastrand::f64() };
            if let Some(update) = self.resume.take(came, moment) {
                return update;
            }
        }
    }

    async fn list(&mut self) -> Came {
        self.stream = None;
        match self.etcd.list(&self.keys).await {
            Ok(listed) => Came::Listed(listed),
            Err(error) => Came::Broken { cause: Cause::Unreachable, why: error.chain(), leave: false },
        }
    }

    async fn open(&mut self, from: i64) -> Came {
        self.stream = None;
        let options = WatchOptions::new().with_start_revision(from);
        let options = match &self.keys {
            Keys::One(_) => options,
            Keys::Prefix(_) => options.with_prefix(),
        };
        let key = self.keys.name().to_owned();
        // The member that is asked is the one to be left where the stream falls silent: by then another may be in use.
        let opened = self.etcd.bounded(self.doing(), self.etcd.request_timeout(), |member| {
            let (mut watch, member) = (member.watch.clone(), Arc::clone(member));
            async move { watch.watch(key, Some(options)).await.map(|stream| (member, stream)) }
        });
        match opened.await {
            Ok((member, stream)) => {
                self.stream = Some((member, Box::new(stream)));
                Came::Opened
            }
            Err(error) => Came::Broken { cause: Cause::Unreachable, why: error.chain(), leave: false },
        }
    }

    async fn listen(&mut self, until: Instant) -> Came {
        let Some((_, stream)) = &mut self.stream else { return self.broken(Fault::StreamEnded) };
        let Ok(answer) = tokio::time::timeout_at(until.into(), stream.message()).await else { return Came::Silence };
        match answer.map_err(Fault::of).and_then(|answer| answer.ok_or(Fault::StreamEnded)) {
            Ok(answer) => Came::Answer(Answer::from(&answer)),
            Err(fault) => self.broken(fault),
        }
    }

    async fn ask_progress(&mut self) -> Came {
        let asked = match &mut self.stream {
            Some((_, stream)) => stream.request_progress().await.map_err(|_| Fault::StreamEnded),
            None => Err(Fault::StreamEnded),
        };
        asked.map_or_else(|fault| self.broken(fault), |()| Came::Asked)
    }

    async fn read_revision(&self, within: Duration) -> Came {
        let (key, options) = (self.keys.name().to_owned(), GetOptions::new().with_count_only());
        let read = self.etcd.bounded(self.doing(), within, |member| {
            let mut kv = member.kv.clone();
            async move { kv.get(key, Some(options)).await }
        });
        match read.await {
            Ok(answer) => {
                let header = answer.header();
                let revision = header.map_or(0, ResponseHeader::revision);
                Came::Revision { revision, cluster_id: header.map_or(0, ResponseHeader::cluster_id) }
            }
            // It was read because the watch had been silent.
            Err(error) => Came::Broken { cause: Cause::Silent, why: error.chain(), leave: false },
        }
    }

    async fn leave(&mut self) -> Came {
        if let Some((member, _)) = self.stream.take() {
            self.etcd.leave(&member).await;
        }
        Came::Left
    }

    fn broken(&self, fault: Fault) -> Came {
        let (leave, member) = (fault.is_the_members(), self.stream.as_ref().map(|(member, _)| member));
        let endpoint = member.map_or_else(|| self.etcd.endpoint(), |member| member.endpoint.clone());
        let error = EtcdError { doing: self.doing().into(), endpoint, fault };
        Came::Broken { cause: Cause::Lost, why: error.chain(), leave }
    }

    fn doing(&self) -> String {
        format!("watch '{}'", self.keys.name())
    }
}

impl Etcd {
    /// All of these keys, by one linearizable read.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn list(&self, keys: &Keys) -> Result<Listed, EtcdError> {
        self.list_with(keys, GetOptions::new()).await
    }

    /// The same without the values.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn list_keys(&self, keys: &Keys) -> Result<Listed, EtcdError> {
        self.list_with(keys, GetOptions::new().with_keys_only()).await
    }

    async fn list_with(&self, keys: &Keys, options: GetOptions) -> Result<Listed, EtcdError> {
        let options = match keys {
            Keys::One(_) => options,
            Keys::Prefix(_) => options.with_prefix(),
        };
        let answer = self.get(format!("list '{}'", keys.name()), keys.name(), Some(options)).await?;
        Ok(Listed {
            entries: answer.kvs().iter().map(Stored::from).collect(),
            revision: answer.header().map_or(0, ResponseHeader::revision),
            cluster_id: answer.header().map_or(0, ResponseHeader::cluster_id),
        })
    }
}

/// Neither kind of event has its former value looked at: it can be missing after a compaction.
fn change(event: &etcd_client::Event) -> Option<Change> {
    let stored = event.kv()?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(Stored::from(stored)),
        EventType::Delete => Change::Delete(stored.key().to_vec(), stored.mod_revision()),
    })
}
