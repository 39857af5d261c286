//! The service over an engine and nodes that do what a test says ([`fake`]).

mod fake;
mod input;
mod shown;
