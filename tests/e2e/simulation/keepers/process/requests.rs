//! A keeper's requests to etcd, one for each step of its machine, and what their answers say to it.

use componenthost::session::lease::{Event, Key, Readings, Step};
use componenthost::session::takeover::Found;
use serde_json::json;

use super::{Doing, KEEPER, Process, address};
use crate::simulation::following::stored;
use crate::simulation::keepers::faults::Fault;
use crate::simulation::model::Compare;
use crate::simulation::model::history::Write;
use crate::simulation::request::{At, Reply, Request};
use crate::simulation::world::{MEMBERS, Ticket, World};

impl Process {
    pub(super) fn perform<F: Fault>(&mut self, step: Step, world: &mut World) {
        let sent = self.now(world);
        let mut doing = Doing { step: step.clone(), sent, tickets: Vec::new(), hedge_at: None, to_revoke: Vec::new() };
        let mut limit = self.plan.limit;
        let request = match &step {
            Step::ClearFormer => {
                doing.to_revoke = self.plan.former.iter().copied().collect();
                match doing.to_revoke.pop() {
                    Some(lease) => Request::Revoke(lease),
                    None => return self.on::<F>(Event::FormerCleared, world),
                }
            }
            Step::ReadKey => Request::List,
            Step::Grant => Request::Grant { owner: self.plan.id.unsigned_abs(), ttl: self.plan.ttl },
            Step::Put { lease_id, stopping, standby } => {
                let mut compares = vec![Compare::Created(self.plan.key.clone(), 0)];
                let mut writes = vec![self.value(&self.plan.key, *lease_id, *stopping)];
                if let (Some(key), Some(created)) = (&self.plan.standby_key, standby) {
                    compares.push(Compare::Created(key.clone(), *created));
                    writes.push(Write::Delete { key: key.clone() });
                }
                if !F::COMPARES {
                    compares.clear();
                }
                Request::Transact { compares, writes }
            }
            Step::PutStandby { lease_id, stopping, active } => {
                let key = self.plan.standby_key.as_ref().expect("it has a standby key");
                let compares = vec![Compare::Created(key.clone(), 0), Compare::Created(self.plan.key.clone(), *active)];
                Request::Transact { compares, writes: vec![self.value(key, *lease_id, *stopping)] }
            }
            Step::Mark { key, lease_id, create_revision } => {
                let key = self.key(*key);
                let compares = vec![Compare::Created(key.clone(), *create_revision)];
                Request::Transact { compares, writes: vec![self.value(&key, *lease_id, true)] }
            }
            Step::Renew { lease_id, hedge_after, limit: within } => {
                limit = *within;
                doing.hedge_at = Some(world.now + *hedge_after).filter(|at| *at < world.now + limit);
                Request::Renew(*lease_id)
            }
            Step::Clear { lease_id: Some(lease), .. } | Step::Drop(lease) => Request::Revoke(*lease),
            Step::Clear { key, lease_id: None, mod_revision } => self.removal::<F>(*key, *mod_revision),
            Step::AskHolder(0) => return self.on::<F>(Event::HolderAsked(None), world),
            Step::AskHolder(lease) => {
                limit = self.plan.ttl / 6;
                Request::TimeLeft(*lease)
            }
            Step::Wait(_) => return,
        };
        if let Some(at) = doing.hedge_at {
            world.wake(self.voice(KEEPER), at);
        }
        doing.tickets.push(self.send(request, limit, world));
        self.doing = Some(doing);
    }

    fn removal<F: Fault>(&self, key: Key, mod_revision: i64) -> Request {
        let key = self.key(key);
        let mut compares = vec![Compare::Modified(key.clone(), mod_revision)];
        if !F::COMPARES {
            compares.clear();
        }
        Request::Transact { compares, writes: vec![Write::Delete { key }] }
    }

    pub(super) fn reply<F: Fault>(&mut self, ticket: Ticket, reply: Reply, world: &mut World) {
        let Some(mut doing) = self.doing.take_if(|doing| doing.tickets.contains(&ticket)) else { return };
        let sent = if F::COUNTS_FROM_THE_ANSWER { self.now(world) } else { doing.sent };
        if let Reply::Failed(why) = reply
            && !matches!(doing.step, Step::Drop(_))
        {
            self.member = (self.member + 1) % MEMBERS;
            let event = match (&doing.step, why) {
                // For people only.
                (Step::AskHolder(_), _) => Event::HolderAsked(None),
                (_, "lease not found") => Event::LeaseGone,
                (_, why) => Event::Failed(why.to_owned()),
            };
            return self.on::<F>(event, world);
        }
        let event = match (&doing.step, reply) {
            (Step::ClearFormer, Reply::Revoked) => match doing.to_revoke.pop() {
                Some(lease) => {
                    doing.tickets = vec![self.send(Request::Revoke(lease), self.plan.limit, world)];
                    self.doing = Some(doing);
                    return;
                }
                None => Event::FormerCleared,
            },
            (Step::ReadKey, Reply::Listed(at)) => Event::Read(self.readings(&at)),
            (Step::Grant, Reply::Granted { lease, ttl }) => {
                self.file.insert(lease);
                Event::Granted { lease_id: lease, ttl, sent }
            }
            (Step::Put { stopping, .. } | Step::PutStandby { stopping, .. }, Reply::Transacted { held: true, at }) => {
                Event::Put { revision: at.revision, stopping: *stopping }
            }
            (Step::Mark { .. }, Reply::Transacted { held: true, .. }) => Event::Marked,
            (Step::Put { .. } | Step::PutStandby { .. } | Step::Mark { .. }, Reply::Transacted { held: false, at }) => {
                Event::NotPut(self.readings(&at))
            }
            (Step::Renew { .. }, Reply::Renewed(Some(ttl))) => Event::Renewed { ttl, sent },
            (Step::Renew { lease_id, .. }, Reply::Renewed(None)) => {
                self.file.remove(lease_id);
                Event::LeaseGone
            }
            (Step::Clear { key, mod_revision, .. }, Reply::Revoked) => {
                let request = self.removal::<F>(*key, *mod_revision);
                doing.tickets = vec![self.send(request, self.plan.limit, world)];
                self.doing = Some(doing);
                return;
            }
            (Step::Clear { .. }, Reply::Transacted { .. }) => Event::Cleared,
            (Step::Drop(lease), reply) => {
                if matches!(reply, Reply::Revoked) {
                    self.file.remove(lease);
                }
                Event::Dropped
            }
            (Step::AskHolder(_), Reply::TimeLeft(left)) => Event::HolderAsked(left),
            (step, reply) => panic!("{step:?} was answered by {reply:?}"),
        };
        self.on::<F>(event, world);
    }

    fn readings(&self, at: &At) -> Readings {
        let found = |key: &str| at.keys.get(key).map(|key| Found::from(&stored(key)));
        let standby = self.plan.standby_key.as_deref().and_then(found);
        Readings { main: found(&self.plan.key), standby, revision: at.revision }
    }

    fn key(&self, key: Key) -> String {
        match key {
            Key::Main => self.plan.key.clone(),
            Key::Standby => self.plan.standby_key.clone().expect("it has a standby key"),
        }
    }

    fn value(&self, key: &str, lease: i64, stopping: bool) -> Write {
        let value = json!({
            "ServerID": self.id, "ServerName": "role", "Address": address(self.plan.machine), "Stopping": stopping,
            "HostName": format!("machine-{}", self.plan.machine), "LeaseID": lease,
        });
        Write::Put { key: key.to_owned(), value: value.to_string().into_bytes(), lease }
    }
}
