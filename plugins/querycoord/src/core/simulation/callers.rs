//! Those who ask to load and release, RootCoord among them, and what they were told.

use std::collections::BTreeSet;

use proto::records::{CollectionRecord, SegmentRecord};
use tonic::{Code, Status};

use super::super::{Done, Input, Token};
use super::world::World;

impl World {
    pub(super) fn read_to_load(&mut self) {
        let known: Vec<_> = self.catalogue.keys().copied().collect();
        let id = match self.random.choice(known) {
            Some(id) if self.random.u32(0..3) > 0 => id,
            _ => self.next(),
        };
        self.catalogue.entry(id).or_default();
        for _ in 0..self.random.usize(0..8) {
            let segment = self.next();
            let rows = if self.random.u32(0..5) == 0 { 0 } else { self.random.u64(1..1000) };
            let record = SegmentRecord { id: segment, collection: id, path: format!("{segment}"), rows, first_id: 0 };
            self.catalogue.entry(id).or_default().push(record);
        }
        let segments = self.catalogue.entry(id).or_default().clone();
        let token = Token(self.next() as u64);
        let replica_number = self.random.u32(0..4);
        let (name, metric) = (format!("c{id}"), "L2".to_owned());
        let collection = CollectionRecord { id, name, dimension: 1, metric, created: 0 };
        self.read.push_back(Input::Load { token, collection, segments, replica_number });
    }

    pub(super) fn ask_to_load(&mut self) -> bool {
        let Some(input) = self.read.pop_front() else { return false };
        if let Input::Load { token, collection, replica_number, .. } = &input {
            self.callers.insert(*token, (collection.id, Some(*replica_number)));
        }
        self.input(input);
        true
    }

    /// RootCoord drops a collection, and has it released as soon as that can be.
    pub(super) fn drop_collection(&mut self) {
        let known: Vec<_> = self.catalogue.keys().copied().collect();
        let Some(id) = self.random.choice(known) else { return };
        self.say(|| format!("collection {id} is dropped"));
        self.catalogue.remove(&id);
        self.marks.insert(id);
        self.dropped.insert(id);
        self.release_dropped();
    }

    pub(super) fn release_dropped(&mut self) -> bool {
        let asked: BTreeSet<_> = self.callers.values().filter(|(_, load)| load.is_none()).map(|(id, _)| *id).collect();
        let Some(id) = self.marks.difference(&asked).next().copied() else { return false };
        self.ask_to_release_of(id);
        true
    }

    pub(super) fn ask_to_release(&mut self) {
        let known: Vec<_> = self.catalogue.keys().copied().collect();
        if let Some(id) = self.random.choice(known) {
            self.ask_to_release_of(id);
        }
    }

    fn ask_to_release_of(&mut self, id: i64) {
        let token = Token(self.next() as u64);
        self.callers.insert(token, (id, None));
        self.input(Input::Release { token, id, name: format!("c{id}") });
    }

    pub(super) fn answered(&mut self, token: Token, done: Result<Done, Status>) {
        let (id, asked) = self.callers.remove(&token).expect("an answer for each caller");
        let is_gone = done.as_ref().map_or_else(|status| status.code() == Code::NotFound, |_| true);
        if asked.is_none() && is_gone {
            self.marks.remove(&id);
        }
        match done {
            Ok(Done::Loaded(serving)) => {
                let segments = serving.segments.iter().map(|served| served.segment.id).collect();
                assert!(asked.is_some_and(|asked| asked == 0 || asked == serving.replica_number), "{asked:?}");
                self.promised.insert(id, (serving.replica_number, segments));
            }
            Ok(Done::Released) => drop(self.promised.remove(&id)),
            // Nobody knows what became of the metadata.
            Err(status) if status.message().contains("metadata") => drop(self.doubtful.insert(id)),
            Err(_) => {}
        }
    }
}
