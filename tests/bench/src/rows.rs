//! All that is measured. A new subject is a file here, and a line in [`ALL`].

mod back;
mod border;
mod caller;
mod calls;
mod connections;
mod cut;
mod embedded;
mod event;
mod first_table;
mod in_host;
mod links;
mod memory;
mod outbound;
mod own_thread;
mod publication;
mod querynode;
mod ready;
mod search;
mod sessions;
mod sides;
mod stamps;
mod start;
mod streams;
mod swap;
mod unary;

use crate::row::Subject;

/// Every subject.
pub const ALL: &[Subject] = &[
    unary::SUBJECT,
    streams::SUBJECT,
    outbound::SUBJECT,
    own_thread::SUBJECT,
    in_host::SUBJECT,
    border::SUBJECT,
    connections::SUBJECT,
    publication::SUBJECT,
    first_table::SUBJECT,
    event::SUBJECT,
    memory::SUBJECT,
    back::SUBJECT,
    cut::SUBJECT,
    ready::SUBJECT,
    links::SUBJECT,
    calls::SUBJECT,
    start::SUBJECT,
    start::NOTICES,
    search::SUBJECT,
    swap::SUBJECT,
    embedded::SUBJECT,
];
