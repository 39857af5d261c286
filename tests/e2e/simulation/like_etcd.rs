//! The model against a real etcd: the same random requests to both, the same answers from both.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{
    Client, Compare as Comparison, CompareOp, EventType, GetOptions, PutOptions, Txn, TxnOp, WatchOptions,
};
use fastrand::Rng;
use tests::etcd::Etcd;

use crate::simulation::agenda::Moment;
use crate::simulation::model::history::{Event, Write};
use crate::simulation::model::leases::End;
use crate::simulation::model::server::{Arrival, Range, Server};
use crate::simulation::model::{Compare, Model};

/// Long enough that none runs out here.
const TTL: i64 = 600;

/// An event as both have it: key, revision of the change, create revision and version, lease; zeroes for a DELETE.
type Told = (String, i64, i64, i64, i64);

/// Both, and the leases of both.
struct Pair {
    real: Client,
    model: Model,
    random: Rng,
    /// The model's lease for each of etcd's.
    leases: BTreeMap<i64, i64>,
}

impl Pair {
    fn key(&mut self) -> String {
        format!("k{}", self.random.u8(0..6))
    }

    async fn step(&mut self) {
        match self.random.u8(0..10) {
            0 => {
                let real = self.real.lease_grant(TTL, None).await.expect("a lease").id();
                let ttl = Duration::from_secs(TTL.unsigned_abs());
                self.leases.insert(real, self.model.grant(0, ttl, Moment::ZERO).expect("a leader"));
            }
            1 => {
                let Some(real) = self.random.choice(self.leases.keys().copied().collect::<Vec<_>>()) else { return };
                self.real.lease_revoke(real).await.expect("revoked");
                let ours = self.leases.remove(&real).expect("it was there");
                assert_eq!(self.model.revoke(ours, End::Revoked), Ok(true));
            }
            _ => self.transact().await,
        }
    }

    /// A transaction that compares something, and puts and deletes up to three keys.
    async fn transact(&mut self) {
        let (mut compares, mut real_compares) = (Vec::new(), Vec::new());
        if self.random.bool() {
            let key = self.key();
            let stored = self.model.keys().get(key.as_str());
            let (created, modified) = stored.map_or((0, 0), |stored| (stored.created, stored.modified));
            let off = i64::from(self.random.u8(0..4) == 0);
            if self.random.bool() {
                real_compares.push(Comparison::create_revision(key.as_str(), CompareOp::Equal, created + off));
                compares.push(Compare::Created(key, created + off));
            } else {
                real_compares.push(Comparison::mod_revision(key.as_str(), CompareOp::Equal, modified + off));
                compares.push(Compare::Modified(key, modified + off));
            }
        }
        let mut writes: Vec<(String, Option<i64>)> = Vec::new();
        for _ in 0..self.random.u8(0..4) {
            let key = self.key();
            let leases: Vec<_> = self.leases.keys().copied().chain([0]).collect();
            let put = (self.random.u8(0..3) > 0).then(|| self.random.choice(leases).unwrap_or_default());
            // etcd refuses two changes of one key in a transaction.
            if writes.iter().all(|(other, _)| *other != key) {
                writes.push((key, put));
            }
        }
        let ours = writes.iter().map(|(key, put)| match put {
            Some(lease) => {
                let lease = self.leases.get(lease).copied().unwrap_or_default();
                Write::Put { key: key.clone(), value: b"v".to_vec(), lease }
            }
            None => Write::Delete { key: key.clone() },
        });
        let ours: Vec<_> = ours.collect();
        let theirs = writes.iter().map(|(key, put)| match put {
            Some(lease) => TxnOp::put(key.as_str(), "v", Some(PutOptions::new().with_lease(*lease))),
            None => TxnOp::delete(key.as_str(), None),
        });
        let txn = Txn::new().when(real_compares).and_then(theirs.collect::<Vec<_>>());
        let answer = self.real.txn(txn).await.expect("an answer");
        assert_eq!(self.model.transact(&compares, &ours, End::Revoked), Ok(answer.succeeded()), "{compares:?}");
        assert_eq!(answer.header().map(|header| header.revision()), Some(self.model.revision()), "{ours:?}");
    }

    async fn compare_keys(&mut self) {
        let answer = self.real.get("", Some(GetOptions::new().with_all_keys())).await.expect("an answer");
        let lease = |real: i64| self.leases.get(&real).copied().unwrap_or_default();
        let theirs = answer.kvs().iter().map(|stored| {
            let key = stored.key_str().expect("our keys are text").to_owned();
            (key, stored.mod_revision(), stored.create_revision(), stored.version(), lease(stored.lease()))
        });
        let ours = self
            .model
            .keys()
            .values()
            .map(|stored| (stored.key.to_string(), stored.modified, stored.created, stored.version, stored.lease));
        assert_eq!(theirs.collect::<Vec<_>>(), ours.collect::<Vec<_>>());
    }

    /// Everything from a revision on: the events with those whose previous value is missing, or else the compaction.
    async fn theirs(&mut self, start: i64) -> Result<(Vec<Told>, Vec<i64>), i64> {
        let options = WatchOptions::new().with_all_keys().with_prev_key().with_start_revision(start);
        let mut stream = self.real.watch("", Some(options)).await.expect("a watch");
        let (mut told, mut without): (Vec<Told>, Vec<i64>) = Default::default();
        while told.last().is_none_or(|last| last.1 < self.model.revision()) {
            let answer = stream.message().await.expect("no error").expect("no end");
            if answer.compact_revision() != 0 {
                assert!(answer.canceled());
                return Err(answer.compact_revision());
            }
            let first = answer.events().first().and_then(|event| event.kv()).map(|stored| stored.mod_revision());
            assert!(
                first.is_none_or(|first| told.last().is_none_or(|last| last.1 < first)),
                "a revision in two answers"
            );
            for event in answer.events() {
                let stored = event.kv().expect("an event has a key");
                let key = stored.key_str().expect("our keys are text").to_owned();
                // A put that creates has no previous value anyway.
                if event.prev_kv().is_none() && stored.create_revision() != stored.mod_revision() {
                    without.push(stored.mod_revision());
                }
                told.push(match event.event_type() {
                    EventType::Put => (key, stored.mod_revision(), stored.create_revision(), stored.version(), 0),
                    EventType::Delete => (key, stored.mod_revision(), 0, 0, 0),
                });
            }
        }
        Ok((told, without))
    }

    fn ours(&mut self, start: i64) -> Result<(Vec<Told>, Vec<i64>), i64> {
        let mut server = Server::new(1, true, &Model::new(1));
        server.apply(0, &self.model);
        let stream = server.open(0, Range::Prefix(String::new()), start, &self.model, Moment::ZERO);
        while server.pump(stream, &self.model, &mut self.random, Moment::ZERO) {}
        let (mut told, mut without) = (Vec::new(), Vec::new());
        while let Some(Arrival::Answer(answer)) = server.arrived(stream, Moment::ZERO) {
            if answer.compacted != 0 {
                return Err(answer.compacted);
            }
            for sent in answer.events {
                let (key, revision) = (sent.event.key().to_owned(), sent.event.revision());
                let (created, version) = match &sent.event {
                    Event::Put(stored) => (stored.created, stored.version),
                    Event::Delete { .. } => (0, 0),
                };
                if sent.previous.is_none() && created != revision {
                    without.push(revision);
                }
                told.push((key, revision, created, version, 0));
            }
        }
        Ok((told, without))
    }
}

#[tokio::test]
async fn the_model_answers_as_etcd_does() {
    let etcd = Etcd::start().await;
    let mut real = etcd.client().await;
    // The revision before the first write.
    let begin = real.get("k", None).await.expect("an answer").header().map_or(0, |header| header.revision());
    let mut pair = Pair { real, model: Model::new(begin), random: Rng::with_seed(7), leases: BTreeMap::new() };
    for step in 1..400 {
        pair.step().await;
        if step % 40 == 0 {
            pair.compare_keys().await;
        }
        if step % 100 == 0 {
            let compacted = pair.model.revision() - pair.random.i64(1..30);
            pair.real.compact(compacted, None).await.expect("compacted");
            pair.model.compact(compacted);
            for start in [compacted - 3, compacted - 1, compacted + 1, compacted + 2] {
                assert_eq!(pair.theirs(start).await, pair.ours(start), "from {start}, compacted {compacted}");
            }
        }
    }
}
