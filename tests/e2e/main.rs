//! Tests with a real etcd and real processes: one binary.

mod admin;
mod connections;
mod discovery;
mod etcd;
mod metadata;
mod session;
