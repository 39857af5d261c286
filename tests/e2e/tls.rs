//! TLS between hosts: who is let in, what is said to who is not, and how certificates are renewed.

mod hosts;
mod refused;
mod renewed;
mod rig;
