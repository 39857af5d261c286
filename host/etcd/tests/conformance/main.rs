//! The same requests to Debian's etcd and to the embedded one: answers, errors and events must be the same.
//!
//! Each test starts one of either, empty, so that their revisions are the same, too. `pair` sends and compares, `real` starts
//! etcd, `histories` draws requests at random.

mod cluster;
mod errors;
mod etcdctl;
mod histories;
mod kv;
mod lease;
mod ops;
mod pair;
mod real;
mod streams;
mod txn;
mod watch;
