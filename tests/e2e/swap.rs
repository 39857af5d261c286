//! Hot swaps: another code takes the place of a component that is running and called, and nobody's call fails.
//!
//! [`rig`] has a probe that is swapped, with its peer, its caller and their calls; `components` has the three real ones.

mod back_and_forth;
mod components;
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
mod state;
mod versions;
mod watched;
