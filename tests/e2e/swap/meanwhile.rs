//! What else may happen during a swap: to peers and callers, to etcd, to the session, to the host, and by other swaps.

mod etcd;
mod peers;
mod queued;
mod shutdown;
mod standby;
