//! All that crosses between a host and a plugin; these are the only files that know `abi_stable` and `async-ffi`.
//!
//! [`root`] is the one exported module, frozen for ever; it gives out interfaces by an explicit number. [`v1`] is the first
//! interface: vtables written by hand, each function of which catches panics on its own side. What is called for every
//! request crosses as `repr(C)` values ([`http`], [`body`], [`bytes`]); what is seldom called crosses as MessagePack of the
//! serde types of this crate ([`message`]), where unknown fields are ignored and absent ones take their default.
//!
//! An author of plugins never meets any of it. The host uses [`root`] to load, and both sides' wrappers in [`v1`].

#![allow(unsafe_code, reason = "the ABI's edge: each block says why it is sound")]

pub mod body;
pub mod bytes;
pub mod future;
pub mod http;
pub mod log;
pub mod message;
pub mod root;
pub mod v1;
