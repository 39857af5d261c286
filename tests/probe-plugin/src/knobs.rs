//! What goes wrong in a probe: faults in the methods of its life, and lies about itself.
//!
//! Faults are in its configuration, or with the lies in a file that the configuration names: a test writes that while the
//! host runs, and says there which versions it is for. So the code that a swap brings is faulty, while the code that it
//! replaces, with the same configuration, is not. The file is read again wherever it matters; none is none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plugin_api::descriptor::{Descriptor, Kind, LeasePolicy};
use plugin_api::identity::Role;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

/// A method of a component's life; its constructor and its background are among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The constructor.
    New,
    /// `descriptor`
    Descriptor,
    /// `start`
    Start,
    /// `activate`
    Activate,
    /// `on_peer`
    OnPeer,
    /// `on_stopping`
    OnStopping,
    /// `deactivate`
    Deactivate,
    /// `stop`
    Stop,
    /// `snapshot`
    Snapshot,
    /// `restore`
    Restore,
    /// The task that `activate` starts; asked at each beat.
    Background,
    /// `Meta` of its service, before it asks.
    Meta,
}

/// What goes wrong in a method.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultConfig {
    /// How.
    pub how: Fault,
    /// Only while this file is there, so that a test can end it.
    #[serde(default, rename = "while", skip_serializing_if = "Option::is_none")]
    pub while_file: Option<PathBuf>,
    /// How long [`Fault::Slow`] lasts.
    #[serde(default)]
    pub ms: u64,
}

/// How a method goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It returns an error, where it can.
    Fail,
    /// It returns the error of a method that its author has not written.
    Unwritten,
    /// It panics.
    Panic,
    /// It does not return.
    Hang,
    /// It returns when the fault has gone.
    Wait,
    /// It takes its time.
    Slow,
    /// It does not return, nor does it give back the thread that it runs on, which no author may do.
    Block,
}

/// What a probe says of itself that is not so, or not what it should be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lies {
    /// It plays this role.
    pub role: Option<Role>,
    /// It is of this kind.
    pub kind: Option<Kind>,
    /// Its lease policy.
    pub lease_policy: Option<LeasePolicy>,
    /// Its gated methods.
    pub gated: Option<Vec<String>>,
    /// It serves under this role's name.
    pub serves_as: Option<Role>,
    /// What is wrong with its state.
    pub state: Option<StateLie>,
}

/// What is wrong with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateLie {
    /// `snapshot` gives what nobody can read.
    Garbage,
    /// `snapshot` gives what only a much later version can read.
    Later,
    /// `restore` takes the state and forgets it.
    Forgets,
}

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// The versions that it is for; all where it does not say.
    pub only: Option<VersionReq>,
    /// Faults, beside those of the configuration.
    pub faults: BTreeMap<Method, FaultConfig>,
    /// Lies.
    pub lies: Lies,
}

impl Knobs {
    /// What the file says to the code of this version.
    ///
    /// # Panics
    ///
    /// Where it can be read, and not understood: a test's mistake.
    pub fn read(file: Option<&Path>, version: &Version) -> Self {
        let text = file.and_then(|file| std::fs::read_to_string(file).ok());
        let read = text.map(|text| serde_json::from_str::<Self>(&text).expect("a file of knobs"));
        read.filter(|knobs| knobs.only.as_ref().is_none_or(|only| only.matches(version))).unwrap_or_default()
    }
}

impl FaultConfig {
    /// A fault of this kind, for as long as the knobs say so.
    pub fn new(how: Fault) -> Self {
        Self { how, while_file: None, ms: 0 }
    }

    /// Is it to happen now?
    pub fn is_on(&self) -> bool {
        self.while_file.as_ref().is_none_or(|file| file.exists())
    }
}

impl Lies {
    /// The descriptor with these in it.
    pub fn told(self, truth: Descriptor) -> Descriptor {
        Descriptor {
            role: self.role.or(truth.role),
            kind: self.kind.unwrap_or(truth.kind),
            lease_policy: self.lease_policy.or(truth.lease_policy),
            gated: self.gated.unwrap_or(truth.gated),
            ..truth
        }
    }
}
