//! All that is measured. A new subject is a file here, and a line in [`ALL`].

mod back;
mod binary;
mod border;
mod caller;
mod calls;
mod connections;
pub mod cut;
mod embedded;
mod event;
pub mod first_table;
mod in_host;
pub mod links;
mod loss;
pub mod memory;
mod outbound;
mod own_thread;
mod publication;
mod querynode;
mod ready;
mod search;
pub mod sessions;
mod sides;
mod stamps;
mod start;
mod streams;
pub mod swap;
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
    loss::SUBJECT,
    ready::SUBJECT,
    links::SUBJECT,
    calls::SUBJECT,
    start::SUBJECT,
    start::NOTICES,
    binary::SUBJECT,
    search::SUBJECT,
    swap::SUBJECT,
    embedded::SUBJECT,
];
