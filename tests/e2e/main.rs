//! Tests with a real etcd and real processes: one binary.

mod admin;
mod connections;
mod border;
mod calls;
mod call;
mod config;
mod etcd;
mod panics;
mod recovery;
mod search;
mod startup;
mod gate;
