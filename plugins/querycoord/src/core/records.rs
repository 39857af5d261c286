//! What is kept in the metadata: `collection/<id>` and `segment/<collection>/<segment>`, as JSON.
//!
//! A segment's record says on which nodes it is, so that a move writes one small record. A collection's record completes a
//! load: a segment's record counts once its `since` is not above the collection's `epoch`. One write is under way at a time,
//! of at most [`MOST`] keys, each compared with what is thought to be there; where that is not so the keys are read again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bytes::Bytes;
use proto::records::{CollectionRecord, SegmentRecord};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::{Action, Change, Collection, Core, Node, Segment, Trouble, Writing};
use crate::serving::Standing;

/// etcd takes 128 operations in a transaction unless told otherwise; the host adds one.
const MOST: usize = 100;

/// A key of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Collection(i64),
    /// A segment of a collection.
    Segment(i64, i64),
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collection(id) => write!(formatter, "collection/{id}"),
            Self::Segment(collection, id) => write!(formatter, "segment/{collection}/{id}"),
        }
    }
}

impl Key {
    /// The prefixes of all keys.
    pub(crate) const PREFIXES: [&str; 2] = ["collection/", "segment/"];

    /// Before the key of each segment of a collection.
    pub(crate) fn segments_of(collection: i64) -> String {
        format!("segment/{collection}/")
    }

    /// The key of that name, where it is one of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let key = match name.split('/').collect::<Vec<_>>()[..] {
            ["collection", id] => Self::Collection(id.parse().ok()?),
            ["segment", collection, id] => Self::Segment(collection.parse().ok()?, id.parse().ok()?),
            _ => return None,
        };
        (key.to_string() == name).then_some(key)
    }
}

/// What is kept under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Record {
    Collection { collection: CollectionRecord, replica_number: u32, epoch: u64 },
    Segment { segment: SegmentRecord, since: u64, nodes: Vec<i64> },
}

/// A record that cannot be understood. Without that of a collection it is not loaded; without that of a segment nobody knows
/// where that is, and it is loaded anew by its id.
#[derive(Debug, thiserror::Error)]
#[error(
    "{key} in the metadata is no record of this version: call LoadCollection for its collection, which writes it anew"
)]
pub(crate) struct Unreadable {
    pub(crate) key: String,
    pub(crate) source: serde_json::Error,
}

fn encode(record: &Record) -> Bytes {
    serde_json::to_vec(record).expect("a record has only strings, numbers and lists").into()
}

impl Core {
    /// Begins with what is kept. A segment that was not completed, or whose collection is not loaded, is deleted.
    pub(super) fn take_over(&mut self, entries: impl IntoIterator<Item = (Key, Bytes)>) -> Vec<Unreadable> {
        let (mut unreadable, mut segments) = (Vec::new(), Vec::new());
        let mut doubtful = BTreeSet::new();
        for (key, value) in entries {
            match (key, serde_json::from_slice(&value)) {
                (Key::Collection(id), Ok(Record::Collection { collection, replica_number, epoch })) => {
                    self.mirror.insert(key, value);
                    let collection = Collection { replicas: replica_number, epoch, ..Collection::new(collection) };
                    self.collections.insert(id, collection);
                }
                (Key::Segment(..), Ok(Record::Segment { segment, since, nodes })) => {
                    segments.push((key, value, segment, since, nodes));
                }
                (key, result) => {
                    match key {
                        Key::Collection(id) => drop(doubtful.insert(id)),
                        Key::Segment(collection, id) => {
                            let path = String::new();
                            let segment = SegmentRecord { id, collection, path, rows: 0, first_id: 0 };
                            segments.push((key, value, segment, 0, Vec::new()));
                        }
                    }
                    let source = result.err().unwrap_or_else(|| serde::de::Error::custom("it is another key's"));
                    unreadable.push(Unreadable { key: key.to_string(), source });
                }
            }
        }
        for (key, value, record, since, nodes) in segments {
            let Key::Segment(of, id) = key else { continue };
            match self.collections.get_mut(&of).filter(|collection| since <= collection.epoch) {
                Some(collection) => {
                    collection.segments.insert(id);
                    self.assume(id, &nodes);
                    let holders = nodes.iter().copied().collect();
                    let segment =
                        Segment { committed: true, kept: Some(nodes), holders, ..Segment::new(record, since) };
                    self.segments.insert(id, segment);
                    self.touched.insert(id);
                }
                // Where its collection's own record cannot be read, nobody knows.
                None if doubtful.contains(&of) => continue,
                None => {
                    self.dirty.insert(key);
                }
            }
            self.mirror.insert(key, value);
        }
        self.changed.extend(self.collections.keys());
        unreadable
    }

    /// Nobody has told of these nodes yet: they hold what the metadata says.
    fn assume(&mut self, segment: i64, nodes: &[i64]) {
        for id in nodes {
            let node = self.nodes.entry(*id).or_insert_with(|| Node::new(String::new(), Standing::Unreachable));
            node.held.insert(segment);
        }
    }

    /// What a key is to hold.
    pub(super) fn desired(&self, key: Key) -> Option<Bytes> {
        match key {
            Key::Collection(id) => {
                let collection = self.collections.get(&id).filter(|collection| collection.releasing.is_empty())?;
                let (replica_number, epoch) = match &collection.load {
                    Some(load) if self.is_loaded(load) => (load.replicas, collection.epoch + 1),
                    _ if collection.replicas > 0 => return self.mirror.get(&key).cloned(),
                    _ => return None,
                };
                Some(encode(&Record::Collection { collection: collection.record.clone(), replica_number, epoch }))
            }
            Key::Segment(_, id) => {
                let segment = self.segments.get(&id)?;
                let nodes: Vec<_> = segment.aim.iter().copied().collect();
                if nodes.is_empty() || !segment.aim.is_subset(&segment.holders) {
                    return self.mirror.get(&key).cloned();
                }
                Some(encode(&Record::Segment { segment: segment.record.clone(), since: segment.since, nodes }))
            }
        }
    }

    /// The nodes of a segment's record, where it is of this epoch: a load that was taken back may have left it.
    pub(super) fn kept_nodes(&self, key: Key, since: u64) -> Option<Vec<i64>> {
        match serde_json::from_slice(self.mirror.get(&key)?) {
            Ok(Record::Segment { nodes, since: of, .. }) if of == since => Some(nodes),
            _ => None,
        }
    }

    /// May a key be in the metadata by now, whatever is known of it?
    pub(super) fn may_be_kept(&self, key: Key) -> bool {
        self.mirror.contains_key(&key) || self.is_being_written(key)
    }

    /// Is it uncertain what the metadata holds under a key?
    pub(super) fn is_being_written(&self, key: Key) -> bool {
        match &self.writing {
            Writing::Idle => false,
            Writing::Under(changes) => changes.iter().any(|change| change.key == key),
            Writing::Unsure(keys) | Writing::Reading(keys) => keys.contains(&key),
        }
    }

    /// Writes, or reads, the next.
    pub(super) fn write(&mut self) {
        if self.fenced || self.now < self.write_trouble.until {
            return;
        }
        match &self.writing {
            Writing::Under(_) | Writing::Reading(_) => return,
            Writing::Unsure(keys) => {
                let keys = keys.clone();
                self.actions.push(Action::Read(keys.clone()));
                self.writing = Writing::Reading(keys);
                return;
            }
            Writing::Idle => {}
        }
        let mut changes = Vec::new();
        while let Some(key) = self.dirty.pop_first() {
            let (before, after) = (self.mirror.get(&key).cloned(), self.desired(key));
            if before != after {
                changes.push(Change { key, before, after });
            }
            if changes.len() == MOST {
                break;
            }
        }
        if !changes.is_empty() {
            self.actions.push(Action::Write(changes.clone()));
            self.writing = Writing::Under(changes);
        } else if self.write_trouble.count > 0 {
            // What was read again is as it is to be: moves need not wait for a write that is not needed.
            self.write_trouble = Trouble::default();
            self.timers.insert(self.now);
        }
    }

    pub(super) fn written(&mut self, result: Result<bool, Status>) {
        let Writing::Under(changes) = std::mem::replace(&mut self.writing, Writing::Idle) else { return };
        match result {
            Ok(true) => {
                self.write_trouble = Trouble::default();
                self.even_again = true;
                for change in changes {
                    self.kept(change.key, change.after);
                }
            }
            result => {
                // Another has changed it, or nobody knows whether it was carried out.
                self.writing = Writing::Unsure(changes.iter().map(|change| change.key).collect());
                if let Err(error) = result {
                    self.cannot_write(&error);
                }
            }
        }
    }

    pub(super) fn read_back(&mut self, result: Result<Vec<Option<Bytes>>, Status>) {
        let Writing::Reading(keys) = std::mem::replace(&mut self.writing, Writing::Idle) else { return };
        match result {
            Ok(values) => {
                for (key, value) in keys.into_iter().zip(values) {
                    self.kept(key, value);
                }
            }
            Err(error) => {
                self.writing = Writing::Unsure(keys);
                self.cannot_write(&error);
            }
        }
    }

    fn cannot_write(&mut self, error: &Status) {
        Self::fail(self.settings, self.now, &mut self.timers, &mut self.write_trouble, error);
        self.answer_unwritten(error);
    }

    /// This is what the metadata holds under a key now.
    fn kept(&mut self, key: Key, value: Option<Bytes>) {
        let record = value.as_ref().and_then(|value| serde_json::from_slice::<Record>(value).ok());
        match value {
            Some(value) => self.mirror.insert(key, value),
            None => self.mirror.remove(&key),
        };
        self.dirty.insert(key);
        match (key, record) {
            (Key::Collection(id), record) => {
                self.place_again = true;
                self.collection_kept(id, record.as_ref());
            }
            (Key::Segment(of, id), record) => {
                if let Some(segment) = self.segments.get_mut(&id) {
                    segment.kept = record.and_then(|record| match record {
                        Record::Segment { nodes, .. } => Some(nodes),
                        Record::Collection { .. } => None,
                    });
                    self.dirty.insert(Key::Collection(of));
                    self.touch(id);
                }
            }
        }
    }
}

impl Collection {
    pub(super) fn new(record: CollectionRecord) -> Self {
        Self {
            record,
            replicas: 0,
            epoch: 0,
            segments: BTreeSet::new(),
            load: None,
            waiting: VecDeque::new(),
            releasing: Vec::new(),
        }
    }
}

impl Segment {
    pub(super) fn new(record: SegmentRecord, since: u64) -> Self {
        Self {
            record,
            committed: false,
            since,
            aim: BTreeSet::new(),
            holders: BTreeSet::new(),
            kept: None,
            failures: BTreeMap::new(),
        }
    }
}
