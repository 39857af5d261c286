//! What a host and a plugin agree on, from abi_stable's header on: layouts, build, and the highest common interface.
//!
//! The same for a loaded plugin and for one that is linked into the binary.
#![allow(unsafe_code, reason = "an interface's table is a bare pointer until its layout has been compared")]

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::LibHeader;
use abi_stable::std_types::{ROption, RResult, RStr};
use plugin_api::border::message::{decode, encode};
use plugin_api::border::root::{Fingerprint, RootRef};
use plugin_api::border::v1::component::{CreateSettings, LifeError};
use plugin_api::border::v1::{self, HostV1, LoadedComponent, PluginV1};

use super::handshake::HandshakeError;

/// The host's interfaces, the newest first: in this order a plugin is asked for them.
const INTERFACES: [u32; 1] = [v1::NUMBER];

/// The table of the interface that host and plugin have in common.
#[derive(Clone, Copy)]
pub enum Interface {
    /// Interface 1.
    V1(&'static PluginV1),
}

impl Interface {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Self::V1(_) => v1::NUMBER,
        }
    }

    /// Makes a component of its configuration.
    ///
    /// # Errors
    ///
    /// As the author's constructor, its panic among them.
    pub fn create(self, config: &str, host: HostV1, settings: &CreateSettings) -> Result<LoadedComponent, LifeError> {
        let Self::V1(table) = self;
        match (table.create)(RStr::from_str(config), host, encode(settings)) {
            RResult::ROk(component) => Ok(LoadedComponent::new(component)),
            RResult::RErr(message) => Err(decode(&message).map_err(LifeError::Failed)?),
        }
    }

    /// The JSON schema of the component's configuration; `None` where what the plugin gives is no JSON.
    pub fn schema(self) -> Option<serde_json::Value> {
        match self {
            Self::V1(table) => serde_json::from_str((table.schema)().as_str()).ok(),
        }
    }
}

/// A plugin that fits this host.
#[derive(Clone)]
pub struct Agreed {
    /// How it was built.
    pub fingerprint: Fingerprint,
    /// What it is called by.
    pub interface: Interface,
}

/// Compares the root module's layout, then the build, then the layout of the newest interface that both have.
///
/// Once for each generation: nothing is remembered of another one.
///
/// # Errors
///
/// [`HandshakeError`], in this order, because each is read by means of what was compared before it.
pub fn agree(header: &'static LibHeader) -> Result<Agreed, HandshakeError> {
    let root = header.init_root_module::<RootRef>()?;
    let fingerprint = read_fingerprint((root.fingerprint())().as_str())?;
    check_build(&fingerprint)?;
    for number in INTERFACES {
        if let ROption::RSome(given) = (root.interface())(number) {
            let interface = check_interface(number, &given)?;
            return Ok(Agreed { fingerprint, interface });
        }
    }
    Err(HandshakeError::NoInterface { host: INTERFACES.to_vec(), plugin: fingerprint.interfaces })
}

fn read_fingerprint(text: &str) -> Result<Fingerprint, HandshakeError> {
    serde_json::from_str(text)
        .map_err(|error| HandshakeError::Fingerprint { text: text.to_owned(), words: error.to_string() })
}

/// Panic strategy and target. Not the compiler's version nor those of the dependencies: two sides that differ there get on,
/// as the layouts show, and no two builds would be equal in all of them.
fn check_build(found: &Fingerprint) -> Result<(), HandshakeError> {
    let own = Fingerprint::new("", "");
    if found.panic != "unwind" {
        return Err(HandshakeError::PanicStrategy { found: found.panic.clone() });
    }
    if found.target != own.target {
        return Err(HandshakeError::Target { expected: own.target, found: found.target.clone() });
    }
    Ok(())
}

fn check_interface(number: u32, given: &plugin_api::border::root::Interface) -> Result<Interface, HandshakeError> {
    check_layout_compatibility(<PluginV1 as StableAbi>::LAYOUT, given.layout).map_err(|errors| {
        HandshakeError::Layout { words: format!("interface {number}: {}", errors.to_string().trim()) }
    })?;
    // SAFETY: the layout of what it points to has just been compared, the root module's contract is that it lives for ever,
    // and the library is never unmapped.
    match unsafe { given.table.cast::<PluginV1>().as_ref() } {
        Some(table) => Ok(Interface::V1(table)),
        None => Err(HandshakeError::RootModule { words: format!("its interface {number} has no table") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(change: impl FnOnce(&mut Fingerprint)) -> Result<(), HandshakeError> {
        let mut fingerprint = Fingerprint::new("querynode", "1.0.0");
        change(&mut fingerprint);
        check_build(&fingerprint)
    }

    #[test]
    fn a_build_like_the_hosts_fits() {
        assert_eq!(built(|_| {}), Ok(()));
        assert_eq!(
            built(|fingerprint| fingerprint.plugin_api = "0.0.7".to_owned()),
            Ok(()),
            "layouts decide, not versions"
        );
    }

    #[test]
    fn a_panic_must_not_end_the_host() {
        let found = "abort".to_owned();
        assert_eq!(
            built(|fingerprint| fingerprint.panic.clone_from(&found)),
            Err(HandshakeError::PanicStrategy { found })
        );
    }

    #[test]
    fn another_target_is_told_with_both() {
        let error =
            built(|fingerprint| fingerprint.target = "riscv64-linux-64".to_owned()).expect_err("another target");
        assert!(error.to_string().contains("riscv64-linux-64") && error.to_string().contains(std::env::consts::ARCH));
    }

    #[test]
    fn a_fingerprint_that_cannot_be_read_is_shown() {
        let error = read_fingerprint("").expect_err("no JSON");
        assert!(matches!(&error, HandshakeError::Fingerprint { text, .. } if text.is_empty()), "{error}");
    }
}
