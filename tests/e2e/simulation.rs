//! Deterministic simulation: the host's state machines against a model of etcd, over random histories by seed.
//!
//! No network, no process, no real time. [`model`] is etcd, written from its documents, and held against a real one by
//! [`like_etcd`]; [`world`] adds the network and time;
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
//! [`keepers`] has several processes that keep sessions of one role, each with its own clock; they are killed, held, and
//! started again, also at the place of their predecessors. What must hold:
//!
//! * *Who is certain of its session is right*: its key is in etcd under that very registration and lease, at each moment of
//!   true time, whatever was delayed or held. So no two are certain of one key. Against force no promise of etcd's holds
//!   (somebody revokes a living lease, deletes a key, or puts one over without its lease); then the next one does:
//! * *A component's write is carried out only while its process has the key.*
//! * No process takes the key of another one that lives; each registers under its own server id, which never changes, and
//!   under a lease of its own.
//! * *At rest each living process is registered*, a coordinator's exactly once as active, the others in standby or waiting
//!   for that one; etcd has these keys and leases and no others. So no registration is lost for good, and none is left over.
//! * The keepers wait for something, and do not flood etcd with requests.
//!
//! Each of the faults that others have had is seeded, and must be found: else these checks see nothing. None of them is in
//! the host; they are other ways to drive its machines (`faults.rs` of either part).

mod agenda;
mod following;
mod journal;
mod keepers;
mod like_etcd;
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

#[test]
fn sessions_are_kept_first_part() {
    all_pass(keepers::run::<keepers::Sound>, 0, 2);
}

#[test]
fn sessions_are_kept_second_part() {
    all_pass(keepers::run::<keepers::Sound>, 1, 2);
}

#[test]
fn a_deadline_that_is_counted_from_the_answer_is_found() {
    is_found(keepers::run::<keepers::CountsFromTheAnswer>);
}

#[test]
fn a_put_that_compares_nothing_is_found() {
    is_found(keepers::run::<keepers::PutsWithoutComparing>);
}

#[test]
fn another_server_id_after_a_lost_lease_is_found() {
    is_found(keepers::run::<keepers::TakesAnotherId>);
}
