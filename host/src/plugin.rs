//! Plugins: how a file becomes a running component.
//!
//! [`gate`] decides whether a file may be opened at all, [`copy`] makes the private copy that is opened in its place.

pub mod copy;
pub mod gate;
