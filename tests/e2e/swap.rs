//! Hot swaps: another code takes the place of a component that is running and called, and nobody's call fails.
//!
//! [`rig`] has a probe that is swapped, with its peer, its caller and their calls.

mod drained;
mod faulty;
mod files;
mod killed;
mod meanwhile;
mod once;
mod probation;
mod quarantine;
mod random;
mod rig;
mod versions;
mod watched;
