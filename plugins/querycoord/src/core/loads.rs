//! `LoadCollection` and `ReleaseCollection`: all or nothing for their callers.
//!
//! One load of a collection at a time; others wait for it. A load is completed when each of the collection's segments is on as
//! many nodes as it asks for, and the metadata says so by one write of the collection's record. Where a segment has been
//! refused by every node the load is taken back: what it added is released, what was loaded before stays.
//!
//! What is to be loaded was read from RootCoord before: a collection that was dropped since then, when nobody here knew of the
//! load, is released by nobody. So RootCoord is asked once more when the load has begun, and no load is completed before that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plugin_api::{Reason, Refusal};
use proto::records::{CollectionRecord, SegmentRecord};
use tonic::{Code, Status};

use super::{Action, CallId, Collection, Core, Key, Record, Segment, Token};
use crate::limit::is_unanswered;
use crate::serving::{Serving, Standing};

/// What was done for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The collection, with the nodes that each segment is to be on.
    Loaded(Arc<Serving>),
    Released,
}

/// A load that waits for its turn.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) token: Option<Token>,
    pub(super) segments: Vec<SegmentRecord>,
    pub(super) replica_number: u32,
}

/// A load that is under way.
#[derive(Debug)]
pub(super) struct Load {
    /// Who waits; nobody any more where the metadata could not be written, or where it was handed over.
    token: Option<Token>,
    pub(super) replicas: u32,
    /// RootCoord is being asked whether it has the collection still.
    unconfirmed: Option<CallId>,
    /// The segments that came with it.
    added: BTreeSet<i64>,
    /// Those of the collection that are not on enough nodes.
    pub(super) missing: BTreeSet<i64>,
    /// By segment and node: who has refused.
    pub(super) failed: BTreeMap<(i64, i64), Status>,
}

/// An answer that is given when nodes have released these segments, or have not answered.
#[derive(Debug)]
pub(super) struct Ending {
    token: Token,
    done: Result<Done, Status>,
    segments: BTreeSet<i64>,
}

impl Core {
    fn answer(&mut self, token: Token, done: Result<Done, Status>) {
        self.actions.push(Action::Answer(token, Box::new(done)));
    }

    pub(super) fn load_of(&self, segment: &Segment) -> Option<&Load> {
        self.collections.get(&segment.record.collection)?.load.as_ref()
    }

    pub(super) fn load(&mut self, record: CollectionRecord, asked: Asked) {
        let id = record.id;
        self.collections.entry(id).or_insert_with(|| Collection::new(record)).waiting.push_back(asked);
        self.begin_next(id);
    }

    /// Begins the next load of a collection, where it is its turn.
    pub(super) fn begin_next(&mut self, id: i64) {
        if self.is_being_written(Key::Collection(id)) {
            // The load or release before may have been carried out: it is known in a moment.
            return;
        }
        while let Some(collection) = self.collections.get_mut(&id) {
            if !self.table || self.paused || collection.load.is_some() || !collection.releasing.is_empty() {
                return;
            }
            let Some(asked) = collection.waiting.pop_front() else {
                if collection.replicas == 0 {
                    self.collections.remove(&id);
                    self.dirty.insert(Key::Collection(id));
                }
                return;
            };
            let replicas = if asked.replica_number == 0 { collection.replicas.max(1) } else { asked.replica_number };
            let name = collection.record.name.clone();
            let empty = collection.segments.is_empty() && asked.segments.is_empty();
            match self.refusal(&name, replicas, empty) {
                Some(status) => asked.token.into_iter().for_each(|token| self.answer(token, Err(status.clone()))),
                None => self.begin(id, asked, replicas),
            }
        }
    }

    fn callable(&self) -> usize {
        self.nodes.values().filter(|node| node.standing == Standing::Callable).count()
    }

    fn refusal(&self, name: &str, replicas: u32, empty: bool) -> Option<Status> {
        let callable = self.callable();
        if self.fenced {
            let text = format!("collection '{name}' cannot be loaded, as the metadata cannot be written");
            return Some(Refusal::new(Reason::Fenced, text).into_status());
        }
        if callable == 0 {
            let text = format!("collection '{name}' cannot be loaded: no querynode can be called");
            return (!empty).then(|| Status::unavailable(text));
        }
        (replicas as usize > callable).then(|| too_few(name, replicas, callable))
    }

    fn begin(&mut self, id: i64, asked: Asked, replicas: u32) {
        let Some(mut collection) = self.collections.remove(&id) else { return };
        let mut added = BTreeSet::new();
        for record in asked.segments {
            let segment_id = record.id;
            match self.segments.get_mut(&segment_id) {
                // Its own record could not be read.
                Some(segment) if segment.record.path.is_empty() => {
                    let more = record.rows.saturating_sub(segment.record.rows);
                    segment.record = record;
                    segment.kept = None;
                    for node in &segment.aim {
                        if let Some(node) = self.nodes.get_mut(node) {
                            node.rows += more;
                        }
                    }
                }
                Some(_) => {}
                None => {
                    let holds = self.nodes.iter().filter(|(_, node)| node.held.contains(&segment_id));
                    let holders = holds.map(|(node, _)| *node).collect();
                    let since = collection.epoch + 1;
                    let kept = self.kept_nodes(Key::Segment(id, segment_id), since);
                    let segment = Segment { holders, kept, ..Segment::new(record, since) };
                    self.segments.insert(segment_id, segment);
                    collection.segments.insert(segment_id);
                    added.insert(segment_id);
                }
            }
        }
        let missing = collection.segments.clone();
        self.touched.extend(&missing);
        self.dirty.insert(Key::Collection(id));
        let call = self.next_call();
        self.actions.push(Action::Confirm { call, collection: id });
        let (token, failed, new) = (asked.token, BTreeMap::new(), added.clone());
        collection.load = Some(Load { token, replicas, unconfirmed: Some(call), added, missing, failed });
        self.collections.insert(id, collection);
        self.aim_as_planned(new);
        self.place_again = true;
    }

    /// Is a segment on as many nodes as the load asks for?
    pub(super) fn count(&mut self, of: i64, id: i64) {
        let Some(segment) = self.segments.get(&id) else { return };
        let Some(load) = self.collections.get_mut(&of).and_then(|collection| collection.load.as_mut()) else { return };
        if segment.aim.intersection(&segment.holders).count() >= load.replicas as usize {
            load.missing.remove(&id);
        } else {
            load.missing.insert(id);
        }
        if load.missing.is_empty() {
            self.dirty.insert(Key::Collection(of));
        }
    }

    /// RootCoord has a collection still, or it does not say so: then nothing may be loaded of it.
    pub(super) fn confirmed(&mut self, call: CallId, result: Result<(), Status>) {
        let is_asked = |at: &Collection| at.load.as_ref().is_some_and(|load| load.unconfirmed == Some(call));
        let Some((id, at)) = self.collections.iter_mut().find(|(_, at)| is_asked(at)) else { return };
        let (id, name) = (*id, &at.record.name);
        let Err(status) = result else {
            at.load.iter_mut().for_each(|load| load.unconfirmed = None);
            self.dirty.insert(Key::Collection(id));
            return;
        };
        let text = match status.code() {
            Code::NotFound => format!("collection '{name}' was dropped while it was being loaded"),
            _ => format!("asking RootCoord for collection '{name}': {}", status.message()),
        };
        self.take_back(id, Status::with_details(status.code(), text, status.details().to_vec().into()));
    }

    /// Is all of it on its nodes, all that came with it in the metadata, and the collection not dropped before it began?
    pub(super) fn is_loaded(&self, load: &Load) -> bool {
        let is_kept = |id: &i64| self.segments.get(id).is_some_and(|segment| segment.kept.is_some());
        load.unconfirmed.is_none() && load.missing.is_empty() && load.added.iter().all(is_kept)
    }

    /// No node can take a segment. A load of it has failed, where none may be able to later.
    pub(super) fn cannot_place(&mut self, id: i64) {
        let Some(segment) = self.segments.get(&id) else { return };
        let Some(load) = self.load_of(segment).filter(|load| load.missing.contains(&id)) else { return };
        let callable = |node: &&super::Node| node.standing == Standing::Callable;
        let of = segment.record.collection;
        if self.is_being_written(Key::Collection(of)) {
            // It may be completed already.
            return;
        }
        let name = self.collections.get(&of).map(|collection| collection.record.name.clone()).unwrap_or_default();
        let failed =
            load.failed.range((id, i64::MIN)..=(id, i64::MAX)).map(|((_, node), status)| (*node, status.clone()));
        let mut failed: Vec<_> = failed.collect();
        for (node, at) in self.nodes.iter().filter(|(_, node)| callable(node) && !node.told) {
            failed.push((*node, Status::unavailable(format!("it does not say what it holds ({})", at.calls.error))));
        }
        let status = if failed.is_empty() {
            too_few(&name, load.replicas, self.callable())
        } else {
            refused(&name, id, &failed)
        };
        self.take_back(of, status);
    }

    /// A load has failed: what came with it goes again.
    fn take_back(&mut self, id: i64, status: Status) {
        let Some(load) = self.collections.get_mut(&id).and_then(|collection| collection.load.take()) else { return };
        tracing::warn!(collection = id, error = status.message(), "a load is taken back");
        self.forget(&load.added);
        self.touch_collection(id);
        if let Some(token) = load.token {
            self.endings.push(Ending { token, done: Err(status), segments: load.added });
        }
        self.begin_next(id);
    }

    /// These segments are wanted no more.
    fn forget(&mut self, segments: &BTreeSet<i64>) {
        for id in segments {
            let Some(segment) = self.segments.get(id) else { continue };
            let of = segment.record.collection;
            segment.aim.clone().into_iter().for_each(|node| self.unaim(*id, node));
            self.segments.remove(id);
            self.lacking.remove(id);
            self.touched.insert(*id);
            self.dirty.insert(Key::Segment(of, *id));
            if let Some(collection) = self.collections.get_mut(&of) {
                collection.segments.remove(id);
            }
        }
        self.even_again = true;
    }

    pub(super) fn release(&mut self, token: Token, id: i64, name: &str) {
        let may_be_kept = self.may_be_kept(Key::Collection(id));
        let Some(collection) = self.collections.get_mut(&id) else {
            return self.answer(token, Err(not_loaded(name)));
        };
        if self.fenced {
            let text = format!("collection '{name}' is not released, as the metadata cannot be written");
            return self.answer(token, Err(Refusal::new(Reason::Fenced, text).into_status()));
        }
        let released = || Status::aborted(format!("collection '{name}' was released while it was being loaded"));
        let is_kept = collection.replicas > 0 || may_be_kept;
        let added = collection.load.as_ref().map(|load| load.added.clone()).unwrap_or_default();
        for asked in std::mem::take(&mut collection.waiting) {
            self.actions.extend(asked.token.map(|token| Action::Answer(token, Box::new(Err(released())))));
        }
        if is_kept {
            collection.releasing.push(token);
            self.dirty.insert(Key::Collection(id));
        } else {
            self.endings.push(Ending { token, done: Ok(Done::Released), segments: added });
        }
        self.take_back(id, released());
        self.begin_next(id);
    }

    /// What the metadata says of a collection now.
    pub(super) fn collection_kept(&mut self, id: i64, record: Option<&Record>) {
        let Some(collection) = self.collections.get_mut(&id) else { return };
        match record {
            Some(Record::Collection { replica_number, epoch, .. }) => {
                let is_newer = *epoch > collection.epoch;
                (collection.replicas, collection.epoch) = (*replica_number, *epoch);
                match collection.load.take_if(|_| is_newer) {
                    Some(load) => self.complete(id, load),
                    None => self.touch_collection(id),
                }
            }
            _ if collection.replicas > 0 || !collection.releasing.is_empty() => self.complete_release(id),
            _ => {}
        }
        self.begin_next(id);
    }

    fn complete(&mut self, id: i64, load: Load) {
        for added in &load.added {
            if let Some(segment) = self.segments.get_mut(added) {
                segment.committed = true;
            }
        }
        self.touch_collection(id);
        self.changed.insert(id);
        self.place_again = true;
        self.even_again = true;
        tracing::info!(collection = id, replicas = load.replicas, added = load.added.len(), "collection loaded");
        // The answer tells what is to be from now on: also where that is fewer nodes than before.
        let segments = self.collections.get(&id).map(|collection| collection.segments.clone()).unwrap_or_default();
        segments.into_iter().for_each(|segment| self.examine(segment));
        if let (Some(token), Some(serving)) = (load.token, self.placements(id)) {
            self.answer(token, Ok(Done::Loaded(Arc::new(serving))));
        }
        self.begin_next(id);
    }

    fn complete_release(&mut self, id: i64) {
        self.take_back(id, Status::aborted("it was released while it was being loaded"));
        let Some(collection) = self.collections.remove(&id) else { return };
        self.forget(&collection.segments);
        self.changed.insert(id);
        self.place_again = true;
        tracing::info!(collection = id, "collection released");
        for token in collection.releasing {
            self.endings.push(Ending { token, done: Ok(Done::Released), segments: collection.segments.clone() });
        }
        if !collection.waiting.is_empty() {
            let anew = Collection { waiting: collection.waiting, ..Collection::new(collection.record) };
            self.collections.insert(id, anew);
            self.begin_next(id);
        }
    }

    /// The metadata cannot be written: nobody is left to wait for that. What was asked for may still come true: a load goes
    /// on, a release does not unless it has been carried out.
    pub(super) fn answer_unwritten(&mut self, error: &Status) {
        let explain = |text: String| {
            let text = format!("{text}: {}", error.message());
            Status::with_details(error.code(), text, error.details().to_vec().into())
        };
        let mut answers = Vec::new();
        let complete = |at: &Collection| at.load.as_ref().is_some_and(|load| self.is_loaded(load));
        let complete: BTreeSet<_> = self.collections.iter().filter(|(_, at)| complete(at)).map(|(id, _)| *id).collect();
        for (id, collection) in &mut self.collections {
            let name = &collection.record.name;
            for token in std::mem::take(&mut collection.releasing) {
                answers.push((token, explain(format!("collection '{name}' may not be released: the metadata"))));
            }
            if let Some(token) =
                collection.load.as_mut().filter(|_| complete.contains(id)).and_then(|load| load.token.take())
            {
                let text = format!("collection '{name}' is loaded as soon as the metadata can be written");
                answers.push((token, explain(text)));
            }
        }
        answers.into_iter().for_each(|(token, status)| self.answer(token, Err(status)));
        let collections: Vec<_> = self.collections.keys().copied().collect();
        collections.into_iter().for_each(|id| self.begin_next(id));
    }

    /// Gives the answers that are due.
    pub(super) fn end(&mut self) {
        for mut ending in std::mem::take(&mut self.endings) {
            let nodes = || self.nodes.values().filter(|node| node.standing == Standing::Callable);
            let is_there = |id: &i64| nodes().any(|node| node.held.contains(id) || node.releasing.contains_key(id));
            // What is wanted anew is not released.
            ending.segments.retain(|id| !self.segments.contains_key(id) && is_there(id));
            if ending.segments.is_empty() || self.fenced || !self.table {
                self.answer(ending.token, ending.done);
            } else {
                self.endings.push(ending);
            }
        }
    }
}

/// The refusal of what asks for a loaded collection.
fn not_loaded(name: &str) -> Status {
    Status::not_found(format!("collection '{name}' is not loaded"))
}

fn too_few(name: &str, replicas: u32, callable: usize) -> Status {
    let text = format!(
        "collection '{name}' cannot be loaded: each segment is to be on {replicas} querynodes (replica_number), and {callable} \
         can be called"
    );
    Status::failed_precondition(text)
}

/// The code is that of a node that has answered, where one has.
fn refused(name: &str, segment: i64, failed: &[(i64, Status)]) -> Status {
    let answered = failed.iter().find(|(_, status)| !is_unanswered(status)).or(failed.first());
    let (code, details) =
        answered.map_or((Code::Unavailable, &[][..]), |(_, status)| (status.code(), status.details()));
    let code = if answered.is_some_and(|(_, status)| is_unanswered(status)) { Code::Unavailable } else { code };
    let each =
        failed.iter().map(|(node, status)| format!("querynode-{node} ({:?}: {})", status.code(), status.message()));
    let each = each.collect::<Vec<_>>().join(", ");
    let text = format!("collection '{name}' cannot be loaded, as segment {segment} is refused by {each}");
    Status::with_details(code, text, details.to_vec().into())
}
