//! Tests with a real etcd and real processes: one binary.

mod admin;
mod border;
mod call;
mod config;
mod calls;
mod connections;
mod etcd;
mod gate;
mod panics;
mod recovery;
mod search;
mod startup;
