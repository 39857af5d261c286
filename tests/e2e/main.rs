//! Tests with a real etcd and real processes: one binary.

mod admin;
mod etcd;
mod gate;
