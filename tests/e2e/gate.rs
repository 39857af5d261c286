//! The gate before a plugin is opened: each refusal, with a real file.

pub mod bench;
mod copy;
mod file;
mod host;
mod look;
mod place;
