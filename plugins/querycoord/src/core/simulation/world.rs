//! The model: what nodes really hold, what is really in the metadata, and what the rules have been told of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use proto::records::SegmentRecord;
use tonic::Status;

use super::super::{Action, Core, Input, Key, Seen, Settings, Time, Token};
use super::nodes::failed;
use crate::serving::Standing;

pub(super) const SETTINGS: Settings = Settings {
    max_moves: 4,
    max_moves_per_node: 2,
    backoff_min: Duration::from_secs(1),
    backoff_max: Duration::from_secs(8),
};

/// A node as it is.
#[derive(Debug)]
pub(super) struct RealNode {
    pub(super) standing: Standing,
    pub(super) held: BTreeSet<i64>,
    /// It refuses loads: for want of memory, or as it does not find files.
    pub(super) refuses: Option<Status>,
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) random: fastrand::Rng,
    tell: bool,
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<i64, RealNode>,
    pub(super) metadata: BTreeMap<Key, Bytes>,
    pub(super) fenced: bool,
    /// What RootCoord has; what it has dropped and not seen released yet, or has.
    pub(super) catalogue: BTreeMap<i64, Vec<SegmentRecord>>,
    pub(super) marks: BTreeSet<i64>,
    pub(super) dropped: BTreeSet<i64>,
    /// Loads whose segments were read from RootCoord, and that nobody here knows of yet.
    pub(super) read: VecDeque<Input>,
    /// Not told yet, in order; and under way.
    pub(super) notices: VecDeque<Input>,
    /// With the answer, where it has been carried out already.
    pub(super) under_way: Vec<(Action, Option<Input>)>,
    /// What callers wait for: the collection, and the replicas that a load asks for.
    pub(super) callers: BTreeMap<Token, (i64, Option<u32>)>,
    /// What callers were told: replicas and segments. Of those in doubt the metadata decides.
    pub(super) promised: BTreeMap<i64, (u32, BTreeSet<i64>)>,
    pub(super) doubtful: BTreeSet<i64>,
    /// Segments that a node has forgotten, perhaps before it was known that it had loaded them.
    pub(super) forgotten: BTreeSet<i64>,
    next: i64,
    calm: bool,
    /// Nothing is to be done any more.
    pub(super) at_rest: bool,
}

impl World {
    pub(super) fn new(seed: u64, tell: bool) -> Self {
        let mut world = Self {
            core: Core::new(SETTINGS, []).0,
            random: fastrand::Rng::with_seed(seed),
            tell,
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            metadata: BTreeMap::new(),
            fenced: false,
            catalogue: BTreeMap::new(),
            marks: BTreeSet::new(),
            dropped: BTreeSet::new(),
            read: VecDeque::new(),
            notices: VecDeque::new(),
            under_way: Vec::new(),
            callers: BTreeMap::new(),
            promised: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            next: 0,
            calm: false,
            at_rest: false,
        };
        for _ in 0..world.random.usize(1..5) {
            world.come();
        }
        world.notices.clear();
        world.tell_table();
        world
    }

    pub(super) fn next(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if self.tell {
            println!("{:?} {}", self.now, what());
        }
    }

    /// Something happens.
    pub(super) fn step(&mut self) {
        match self.random.u32(0..100) {
            0..45 => drop(self.answer_one()),
            45..65 => drop(self.notice_one()),
            65..72 => self.pass_time(),
            72..75 => self.read_to_load(),
            75..78 => drop(self.ask_to_load()),
            78..79 => self.ask_to_release(),
            79..80 => self.drop_collection(),
            80..83 => self.come(),
            83..85 => self.die(),
            85..88 => self.change_link(),
            88..90 => self.stop(),
            90..93 => self.refuse(),
            93..94 => self.crash(),
            94..95 => self.swap(),
            95..97 => self.fence(),
            97..98 => self.lose_segment(),
            _ => self.not_held(),
        }
    }

    /// What is under way goes on; `false` at rest.
    pub(super) fn go_on(&mut self) -> bool {
        let (answered, told) = (self.answer_one(), self.notice_one());
        if answered || told || self.ask_to_load() || self.release_dropped() {
            return true;
        }
        if let Some(at) = self.core.timer() {
            self.now = self.now.max(at);
            self.input(Input::Timer);
            return true;
        }
        let Some((node, segment)) = self.vain_search() else { return false };
        self.input(Input::NotHeld(node, vec![segment]));
        true
    }

    /// No more faults: links are whole, nodes take what they are given, the metadata can be written.
    pub(super) fn make_well(&mut self) {
        self.calm = true;
        self.say(|| "all is well".to_owned());
        let stopping: Vec<_> = self.with(Standing::Stopping);
        for id in stopping {
            self.end(id);
        }
        for (id, node) in &mut self.nodes {
            node.refuses = None;
            if node.standing != Standing::Callable {
                node.standing = Standing::Callable;
                self.notices.push_back(Input::Node(seen(*id, Standing::Callable)));
            }
        }
        if std::mem::take(&mut self.fenced) {
            self.notices.push_back(Input::Fenced(false));
        }
    }

    fn with(&self, standing: Standing) -> Vec<i64> {
        self.nodes.iter().filter(|(_, node)| node.standing == standing).map(|(id, _)| *id).collect()
    }

    fn any_node(&mut self) -> Option<i64> {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        self.random.choice(ids)
    }

    pub(super) fn input(&mut self, input: Input) {
        self.say(|| format!("  <- {input:?}"));
        let before = self.reachable();
        let actions = self.core.step(self.now, input);
        for action in actions {
            self.say(|| format!("  -> {action:?}"));
            match action {
                Action::Answer(token, done) => self.answered(token, *done),
                action => {
                    assert!(!self.at_rest || matches!(action, Action::Ask { .. }), "{action:?} is done for nothing");
                    self.check_action(&action);
                    self.under_way.push((action, None));
                }
            }
        }
        self.check_step(&before);
    }

    fn tell_table(&mut self) {
        let all = self.nodes.iter().map(|(id, node)| seen(*id, node.standing)).collect();
        self.notices.push_back(Input::Table(all));
    }

    fn notice_one(&mut self) -> bool {
        let Some(notice) = self.notices.pop_front() else { return false };
        self.input(notice);
        true
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_millis(self.random.u64(1..2000));
        self.input(Input::Timer);
    }

    fn come(&mut self) {
        let id = self.next();
        if self.nodes.len() < 7 {
            let node = RealNode { standing: Standing::Callable, held: BTreeSet::new(), refuses: None };
            self.nodes.insert(id, node);
            self.notices.push_back(Input::Node(seen(id, Standing::Callable)));
        }
    }

    fn die(&mut self) {
        if let Some(id) = self.any_node() {
            self.end(id);
        }
    }

    pub(super) fn end(&mut self, id: i64) {
        self.say(|| format!("node {id} ends"));
        self.nodes.remove(&id);
        self.notices.push_back(Input::Gone(id));
    }

    fn change_link(&mut self) {
        let Some(id) = self.any_node() else { return };
        let next = match (self.nodes[&id].standing, self.random.bool()) {
            (Standing::Stopping, _) => return,
            (Standing::Callable, _) => Standing::Unreachable,
            (Standing::Unreachable, true) => Standing::GivenUp,
            _ => Standing::Callable,
        };
        self.set(id, next);
    }

    fn set(&mut self, id: i64, standing: Standing) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.standing = standing;
            self.notices.push_back(Input::Node(seen(id, standing)));
        }
    }

    /// It stops; or one that stops has no more time.
    fn stop(&mut self) {
        match self.any_node() {
            Some(id) if self.nodes[&id].standing == Standing::Stopping => self.end(id),
            Some(id) if self.nodes[&id].standing == Standing::Callable => self.set(id, Standing::Stopping),
            _ => {}
        }
    }

    fn refuse(&mut self) {
        let status = match self.random.u32(0..4) {
            0 => Some(Status::resource_exhausted("no memory")),
            1 => Some(Status::not_found("no such file")),
            _ => None,
        };
        if let Some(node) = self.any_node().and_then(|id| self.nodes.get_mut(&id)) {
            node.refuses = status;
        }
    }

    /// A coordinator dies, with or without what it had under way being done; another goes on.
    fn crash(&mut self) {
        self.say(|| "the coordinator is killed".to_owned());
        for (action, done) in std::mem::take(&mut self.under_way) {
            if done.is_none() && self.random.bool() {
                self.carry_out(&action);
            }
        }
        self.callers_go();
        let (core, unreadable) = Core::new(SETTINGS, self.metadata.clone());
        assert!(unreadable.is_empty(), "{unreadable:?}");
        self.core = core;
        self.tell_anew();
    }

    /// Nobody hears any more what becomes of what was asked for.
    pub(super) fn callers_go(&mut self) {
        self.read.clear();
        for (_, (id, _)) in std::mem::take(&mut self.callers) {
            self.doubtful.insert(id);
        }
    }

    /// Whoever goes on is told how all stands.
    pub(super) fn tell_anew(&mut self) {
        self.notices.clear();
        self.tell_table();
        if self.fenced {
            self.notices.push_back(Input::Fenced(true));
        }
    }

    fn fence(&mut self) {
        self.fenced = !self.fenced;
        self.notices.push_back(Input::Fenced(self.fenced));
    }

    /// A node forgets a segment, which a search then finds out.
    fn lose_segment(&mut self) {
        let Some(id) = self.any_node() else { return };
        let held: Vec<_> = self.nodes[&id].held.iter().copied().collect();
        if let (Some(segment), Some(node)) = (self.random.choice(held), self.nodes.get_mut(&id)) {
            node.held.remove(&segment);
            self.forgotten.insert(segment);
            self.say(|| format!("node {id} forgets {segment}"));
            self.notices.push_back(Input::NotHeld(id, vec![segment]));
        }
    }

    fn not_held(&mut self) {
        if let Some(id) = self.any_node() {
            let held = self.nodes[&id].held.iter().copied().collect();
            self.input(Input::NotHeld(id, held));
        }
    }

    /// One of those that are under way is answered.
    fn answer_one(&mut self) -> bool {
        if self.under_way.is_empty() {
            return false;
        }
        let at = self.random.usize(..self.under_way.len());
        let (action, done) = self.under_way[at].clone();
        let lost = !self.calm && self.random.u32(0..12) == 0;
        let done = match done {
            None if lost && self.random.bool() => None,
            None => self.carry_out(&action),
            done => done,
        };
        if done.is_some() && !lost && self.random.bool() {
            // The answer is on its way.
            self.under_way[at].1 = done;
            return true;
        }
        self.under_way.swap_remove(at);
        self.input(done.filter(|_| !lost).unwrap_or_else(|| failed(&action)));
        true
    }
}

fn seen(id: i64, standing: Standing) -> Seen {
    Seen { id, address: format!("127.0.0.1:{id}"), standing }
}
