//! Tests with a real etcd and real processes: one binary.

mod border;
mod calls;
mod admin;
mod etcd;
mod panics;
mod recovery;
mod search;
mod startup;
