//! Tests with a real etcd and real processes: one binary.

mod etcd;
mod gate;
