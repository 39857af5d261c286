//! The follower as it should be, and with faults that others have had. None of them is in the host: each is another way to
//! drive its machines.

use std::cell::Cell;
use std::time::Instant;

use componenthost::discovery::table::Table;
use componenthost::etcd::watch::{Change, Stored};

use crate::simulation::following::{Driving, change};
use crate::simulation::model::history::Event;
use crate::simulation::model::server::{Answer, Sent};

/// How a table is driven.
pub trait Subject: Driving + Default {
    /// Looks now and then whether the table is right.
    const RECONCILES: bool = true;

    /// All keys were listed.
    fn list(table: &mut Table, entries: &[Stored], revision: i64, now: Instant) {
        table.replace(entries, revision, now);
    }
}

/// As the host does it.
#[derive(Default)]
pub struct Sound;

impl Driving for Sound {}
impl Subject for Sound {}

/// Goes on from the revision of the last `created` answer.
#[derive(Default)]
pub struct FromCreated {
    created: Cell<i64>,
}

impl Driving for FromCreated {
    fn open_from(&self, from: i64) -> i64 {
        from.max(self.created.get() + 1)
    }

    fn heard(&mut self, answer: &Answer) {
        if answer.created {
            self.created.set(answer.revision);
        }
    }
}

impl Subject for FromCreated {}

/// Takes a new list for puts of what is in it, and forgets that what is not has gone.
#[derive(Default)]
pub struct NoDifference;

impl Driving for NoDifference {}

impl Subject for NoDifference {
    fn list(table: &mut Table, entries: &[Stored], revision: i64, now: Instant) {
        if table.published().revision == 0 {
            table.replace(entries, revision, now);
            return;
        }
        let puts: Vec<_> = entries.iter().cloned().map(Change::Put).collect();
        table.change(&puts, now);
    }
}

/// Trusts the watch for ever.
#[derive(Default)]
pub struct NeverReconciles;

impl Driving for NeverReconciles {}

impl Subject for NeverReconciles {
    const RECONCILES: bool = false;
}

/// Learns from the previous value who it was that went.
#[derive(Default)]
pub struct TrustsPrevious;

impl Driving for TrustsPrevious {
    fn changes(&self, events: &[Sent]) -> Vec<Change> {
        let known = events.iter().filter(|sent| !matches!(sent.event, Event::Delete { .. }) || sent.previous.is_some());
        known.map(|sent| change(&sent.event)).collect()
    }
}

impl Subject for TrustsPrevious {}
