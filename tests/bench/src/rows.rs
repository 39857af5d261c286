//! All that is measured. A new subject is a file here, and a line in [`ALL`].

mod back;
mod event;
mod first_table;
mod memory;
mod publication;
mod sessions;
mod stamps;

use crate::row::Subject;

/// Every subject.
pub const ALL: &[Subject] =
    &[publication::SUBJECT, first_table::SUBJECT, event::SUBJECT, memory::SUBJECT, back::SUBJECT];
