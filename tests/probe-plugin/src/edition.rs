//! The editions of the probe: the same code under two versions, whose states have two formats.

use semver::Version;

/// Which code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// This crate's own plugin.
    First,
    /// The same under another version, with a state that has a field more.
    Second,
}

impl Edition {
    /// Its version.
    pub fn version(self) -> Version {
        match self {
            Self::First => env!("CARGO_PKG_VERSION").parse().expect("cargo checks it"),
            Self::Second => Version::new(2, 0, 0),
        }
    }

    /// The version of its state's format.
    pub fn state_version(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Second => 2,
        }
    }
}
