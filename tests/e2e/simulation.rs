//! Deterministic simulation: the host's state machines against a model of etcd, over random histories by seed.
//!
//! No network, no process, no real time. [`model`] is etcd, written from its documents; [`world`] adds the network and time;
//! [`following`] drives the machine that follows keys, as its driver does. No code is shared with what is tested, but for the
//! machines' own input and output. `tests/README.md` says how to run a seed again.
//!
//! [`peers`] has a table of peers that follows many restless hosts. What must hold:
//!
//! * *Each published table is etcd's at the table's revision*: so no event is lost, none counts twice, and the order is kept.
//!   Values that are no sessions, and keys of others, hide nothing.
//! * The revision is that of the list, or of the answer's last event. It never goes back, and no answer is published twice,
//!   but where etcd has lost its data.
//! * Tables differ in when an identity appeared if, and only if, one without it was between them; a table says which sessions
//!   differ from an earlier one.
//! * Whoever is missing from a list with most of the role is kept, as a suspect, for its time: nobody else, and no longer. A
//!   DELETE is believed at once.
//! * *At rest the table is etcd's*, and fresh, also where etcd has lost events.
//! * The machines wait for something: they never go round.
//!
//! Each of the faults that others have had is seeded, and must be found: else these checks see nothing. None of them is in
//! the host; they are other ways to drive its machines (`peers/faults.rs`).

#![expect(dead_code, reason = "the model has leases and transactions already, for the sessions' keepers")]

mod agenda;
mod following;
mod journal;
mod model;
mod peers;
mod request;
mod seeds;
mod world;

use crate::simulation::seeds::{all_pass, is_found};

#[test]
fn a_table_of_peers_is_etcds_first_part() {
    all_pass(peers::run::<peers::Sound>, 0, 2);
}

#[test]
fn a_table_of_peers_is_etcds_second_part() {
    all_pass(peers::run::<peers::Sound>, 1, 2);
}

#[test]
fn a_watch_from_the_revision_of_a_created_answer_is_found() {
    is_found(peers::run::<peers::FromCreated>);
}

#[test]
fn a_list_without_a_difference_is_found() {
    is_found(peers::run::<peers::NoDifference>);
}

#[test]
fn a_watch_that_is_trusted_for_ever_is_found() {
    is_found(peers::run::<peers::NeverReconciles>);
}

#[test]
fn a_previous_value_that_is_trusted_is_found() {
    is_found(peers::run::<peers::TrustsPrevious>);
}
