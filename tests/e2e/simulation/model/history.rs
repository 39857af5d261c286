//! Keys and their history, as etcd's documents promise them: each transaction that changes something has the next revision, all
//! its changes have that one; a key counts its versions from 1 since it was created; a deleted key begins anew.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// A key with its value at some revision.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Rc<str>,
    pub value: Rc<[u8]>,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
    /// 0 for none.
    pub lease: i64,
}

/// A change of one key.
#[derive(Clone, Debug)]
pub enum Event {
    Put(Rc<KeyValue>),
    Delete { key: Rc<str>, revision: i64 },
}

/// All keys at one revision.
pub type Keys = BTreeMap<Rc<str>, Rc<KeyValue>>;

/// One change of a transaction.
#[derive(Clone, Debug)]
pub enum Write {
    Put { key: String, value: Vec<u8>, lease: i64 },
    Delete { key: String },
}

/// What the members agree upon, in order.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The transaction of this revision.
    Written(i64),
    /// The history before this revision is thrown away.
    Compacted(i64),
}

/// One cluster's data, from its first revision on. Nothing is forgotten here: what is compacted is so for the members only.
pub struct History {
    pub cluster: u64,
    first: i64,
    states: Vec<Rc<Keys>>,
    events: Vec<Vec<Event>>,
    pub log: Vec<Entry>,
    pub compacted: i64,
}

impl Entry {
    pub fn written(&self) -> Option<i64> {
        match self {
            Self::Written(revision) => Some(*revision),
            Self::Compacted(_) => None,
        }
    }
}

impl Event {
    pub fn key(&self) -> &str {
        match self {
            Self::Put(stored) => &stored.key,
            Self::Delete { key, .. } => key,
        }
    }

    pub fn revision(&self) -> i64 {
        match self {
            Self::Put(stored) => stored.modified,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

impl History {
    /// Empty, at this revision.
    pub fn new(cluster: u64, first: i64) -> Self {
        let (states, events) = (vec![Rc::new(Keys::new())], vec![Vec::new()]);
        Self { cluster, first, states, events, log: Vec::new(), compacted: 0 }
    }

    pub fn revision(&self) -> i64 {
        self.first + i64::try_from(self.states.len()).expect("few revisions") - 1
    }

    pub fn first(&self) -> i64 {
        self.first
    }

    pub fn keys(&self) -> &Rc<Keys> {
        self.states.last().expect("there is a first state")
    }

    /// All keys as they were at this revision.
    pub fn at(&self, revision: i64) -> Option<&Rc<Keys>> {
        usize::try_from(revision - self.first).ok().and_then(|index| self.states.get(index))
    }

    /// The changes of this revision.
    pub fn events(&self, revision: i64) -> &[Event] {
        let index = usize::try_from(revision - self.first).ok();
        index.and_then(|index| self.events.get(index)).map_or(&[], Vec::as_slice)
    }

    /// A transaction. What changes nothing has no revision. Returns the changes.
    pub fn commit(&mut self, writes: &[Write]) -> &[Event] {
        let revision = self.revision() + 1;
        let mut keys = Keys::clone(self.keys());
        let events: Vec<_> = writes.iter().filter_map(|write| apply(&mut keys, write, revision)).collect();
        if events.is_empty() {
            return &[];
        }
        self.states.push(Rc::new(keys));
        self.events.push(events);
        self.log.push(Entry::Written(revision));
        self.events(revision)
    }

    /// Throws the history before this revision away.
    pub fn compact(&mut self, revision: i64) {
        if revision > self.compacted && revision <= self.revision() {
            self.compacted = revision;
            self.log.push(Entry::Compacted(revision));
        }
    }
}

fn apply(keys: &mut Keys, write: &Write, revision: i64) -> Option<Event> {
    match write {
        Write::Put { key, value, lease } => {
            let key: Rc<str> = key.as_str().into();
            let before = keys.get(&key);
            let stored = Rc::new(KeyValue {
                key: Rc::clone(&key),
                value: value.as_slice().into(),
                created: before.map_or(revision, |before| before.created),
                modified: revision,
                version: before.map_or(1, |before| before.version + 1),
                lease: *lease,
            });
            keys.insert(key, Rc::clone(&stored));
            Some(Event::Put(stored))
        }
        Write::Delete { key } => {
            let previous = keys.remove(key.as_str())?;
            Some(Event::Delete { key: Rc::clone(&previous.key), revision })
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(stored) => {
                let KeyValue { key, value, created, modified, lease, .. } = &**stored;
                let value = String::from_utf8_lossy(&value[..value.len().min(60)]);
                write!(formatter, "put {key}@{modified} created {created} lease {lease} {value}")
            }
            Self::Delete { key, revision } => write!(formatter, "delete {key}@{revision}"),
        }
    }
}
