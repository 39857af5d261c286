//! Tests with a real etcd and real processes: one binary.

mod admin;
mod border;
mod calls;
mod etcd;
mod panics;
mod recovery;
mod search;
mod startup;
