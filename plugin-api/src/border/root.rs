//! The root module: the one thing that a plugin exports, and all that a host knows of it before they agree on an interface.
//!
//! Frozen for ever: a host refuses any other layout. What grows are the interfaces that it gives out by number. The symbol
//! under which it is found holds the crate's name, so that several plugins can be linked into one binary.

use std::sync::OnceLock;

use abi_stable::StableAbi;
use abi_stable::library::{AbiHeaderRef, LibHeader, RootModule};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RString};
use abi_stable::type_layout::TypeLayout;
use serde::{Deserialize, Serialize};

/// The entry symbol's name is this and the name of the plugin's crate.
pub const ENTRY_PREFIX: &str = "componenthost_plugin_";

/// The entry symbol: gives the header that abi_stable checks.
pub type Entry = extern "C" fn() -> AbiHeaderRef;

/// What a plugin exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RootRef)))]
pub struct Root {
    /// A [`Fingerprint`] as JSON.
    pub fingerprint: extern "C" fn() -> RString,
    /// The interface of this number, where the plugin has it. The host asks from its newest down.
    #[sabi(last_prefix_field)]
    pub interface: extern "C" fn(number: u32) -> ROption<Interface>,
}

/// An interface that a plugin gives out.
#[repr(C)]
#[derive(StableAbi)]
pub struct Interface {
    /// The layout of what `table` points to, to be compared with the host's own.
    pub layout: &'static TypeLayout,
    /// The interface's table of functions.
    pub table: *const (),
}

impl RootModule for RootRef {
    abi_stable::declare_root_module_statics! {RootRef}
    const BASE_NAME: &'static str = "componenthost_plugin";
    const NAME: &'static str = "componenthost_plugin";
    // The root's own version: that of the crate would make abi_stable refuse every other minor version of it.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}

/// How a plugin was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The plugin's crate.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The version of `plugin-api` that it was built with.
    pub plugin_api: String,
    /// What happens on a panic: `unwind`, or `abort`, which no host accepts.
    pub panic: String,
    /// Architecture, operating system and pointer width that it was built for.
    pub target: String,
    /// The interfaces that it gives out.
    pub interfaces: Vec<u32>,
}

impl Fingerprint {
    /// The fingerprint of a crate that is compiled together with this one.
    pub fn new(package: &str, version: &str) -> Self {
        Self {
            package: package.to_owned(),
            version: version.to_owned(),
            plugin_api: env!("CARGO_PKG_VERSION").to_owned(),
            panic: if cfg!(panic = "abort") { "abort" } else { "unwind" }.to_owned(),
            target: format!("{}-{}-{}", std::env::consts::ARCH, std::env::consts::OS, usize::BITS),
            interfaces: vec![super::v1::NUMBER],
        }
    }
}

/// The header of one plugin, made at its first use.
pub struct Header(OnceLock<LibHeader>);

impl Default for Header {
    fn default() -> Self {
        Self::new()
    }
}

impl Header {
    /// Not made yet.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// What the entry symbol returns.
    pub fn reference(&'static self, make: impl FnOnce() -> Root) -> AbiHeaderRef {
        let header: &'static LibHeader = self.0.get_or_init(|| LibHeader::from_module(make().leak_into_prefix()));
        // SAFETY: an `AbiHeaderRef` is a transparent reference to the `AbiHeader` at the start of a `repr(C)` `LibHeader`;
        // abi_stable's own export macro makes it in the same way.
        unsafe { std::mem::transmute::<&'static LibHeader, AbiHeaderRef>(header) }
    }
}
