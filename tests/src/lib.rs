//! The harness of the tests.

pub mod etcd;
