//! All that is measured. A new subject is a file here, and a line in [`ALL`].

mod back;
mod binary;
mod caller;
mod calls;
pub mod cut;
mod embedded;
mod event;
pub mod first_table;
pub mod links;
mod loss;
pub mod memory;
mod publication;
mod querynode;
mod ready;
mod search;
pub mod sessions;
mod stamps;
mod start;
pub mod swap;

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
