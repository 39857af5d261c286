//! All that is measured. A new subject is a file here, and a line in [`ALL`].

mod back;
mod binary;
mod caller;
mod calls;
mod cut;
mod embedded;
mod event;
mod first_table;
mod links;
mod loss;
mod memory;
mod publication;
mod querynode;
mod ready;
mod search;
mod sessions;
mod stamps;
mod start;
mod swap;

use crate::row::Subject;

/// Every subject.
pub const ALL: &[Subject] = &[
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
