//! Tests with a real etcd and real processes: one binary.

mod admin;
mod border;
mod call;
mod config;
mod calls;
mod config;
mod connections;
mod discovery;
mod etcd;
mod metadata;
mod session;
mod gate;
mod panics;
mod recovery;
mod search;
mod startup;
mod static_linking;
