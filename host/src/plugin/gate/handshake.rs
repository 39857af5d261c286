//! Opening a library and the first words with it, up to abi_stable's header.
//!
//! The child of the first look and the loader of the host both do exactly this. Never call it for a file that has not
//! passed [`super::inspect`] and, in the host's own process, a first look: constructors run in here.
#![allow(unsafe_code, reason = "the one place where a library is opened and its entry symbol called")]

use std::path::Path;

use abi_stable::library::{AbiHeader, AbiHeaderRef, LibHeader, LibraryError};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use plugin_api::error::chain;
use serde::{Deserialize, Serialize};

/// What a library that could be opened is refused for. It crosses from the first look's child as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeError {
    /// The dynamic loader refuses the file.
    #[error("the dynamic loader refuses it: {words}")]
    Loader {
        /// The loader's words.
        words: String,
    },
    /// The entry symbol that the file's table shows cannot be had, or leads to nothing.
    #[error("its entry {symbol} gives nothing: {words}; build it again with the export macro")]
    Entry {
        /// The symbol.
        symbol: String,
        /// Why.
        words: String,
    },
    /// It was built with another version of abi_stable.
    #[error(
        "another ABI version: expected {expected}, found {found}; build the plugin with the plugin-api of this host's release"
    )]
    AbiVersion {
        /// The host's header.
        expected: String,
        /// The plugin's header.
        found: String,
    },
    /// Its compiler passes values in another way.
    #[error("another C ABI: {words}; build the plugin and the host with compilers that agree")]
    CAbi {
        /// abi_stable's words.
        words: String,
    },
    /// The layouts of a type that crosses the border differ.
    #[error("the layouts differ: {words}; build the plugin with the plugin-api of this host's release")]
    Layout {
        /// abi_stable's words, which tell where.
        words: String,
    },
    /// The root module's version does not fit, or its constructor failed.
    #[error("its root module cannot be had: {words}")]
    RootModule {
        /// abi_stable's words.
        words: String,
    },
    /// It was built for another target.
    #[error("another target: expected {expected}, found {found}; build the plugin for the host's target")]
    Target {
        /// The host's.
        expected: String,
        /// The plugin's.
        found: String,
    },
    /// A panic in it would end the host.
    #[error(
        "its panic strategy: expected unwind, found {found}, with which a panic in the plugin would end the whole host; \
         remove `panic = \"{found}\"` from the profile it is built with"
    )]
    PanicStrategy {
        /// The plugin's.
        found: String,
    },
    /// What it says of its build cannot be read.
    #[error("what it says of its build cannot be read ({words}): {text}")]
    Fingerprint {
        /// What it says.
        text: String,
        /// Why it cannot be read.
        words: String,
    },
    /// Host and plugin know no interface in common.
    #[error(
        "no interface in common: the host has {}, the plugin has {}; build the plugin with the plugin-api of this host's \
         release, or take a host of the plugin's",
        numbers(.host), numbers(.plugin)
    )]
    NoInterface {
        /// The host's interface numbers.
        host: Vec<u32>,
        /// The plugin's.
        plugin: Vec<u32>,
    },
}

impl From<LibraryError> for HandshakeError {
    fn from(error: LibraryError) -> Self {
        let words = error.to_string().trim().to_owned();
        match error {
            LibraryError::InvalidAbiHeader(found) => {
                Self::AbiVersion { expected: describe(&AbiHeader::VALUE), found: describe(&found) }
            }
            LibraryError::InvalidCAbi { .. } => Self::CAbi { words },
            LibraryError::AbiInstability(_) => Self::Layout { words },
            _ => Self::RootModule { words },
        }
    }
}

/// An entry, as the export macro makes it. What it returns is taken as a pointer, which may be null, until it was looked at.
type Entry = extern "C" fn() -> *const AbiHeader;

/// A library that is open and will never be closed: abi_stable keeps pointers into it, and one that a thread-local's
/// destructor holds would stay mapped in any case.
#[derive(Clone, Debug)]
pub struct Loaded {
    entry_symbol: String,
    entry: Entry,
}

impl Loaded {
    /// Opens a private copy.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Loader`] or [`HandshakeError::Entry`]. A crash or a hang of a constructor is not an error but the
    /// end or the hang of this process.
    pub fn open(copy: &Path, entry_symbol: &str) -> Result<Self, HandshakeError> {
        // SAFETY: running the file's constructors is what is asked for; the caller has had the file inspected and, in the
        // host's own process, looked at by a child.
        let library = unsafe { Library::open(Some(copy), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| HandshakeError::Loader { words: chain(&error) })?;
        // SAFETY: the symbol is a plugin's by its name, whose type is this by the contract of the export macro.
        let entry = unsafe { library.get::<Entry>(entry_symbol) }.map(|symbol| *symbol);
        std::mem::forget(library);
        let entry = entry.map_err(|error| no_entry(entry_symbol, chain(&error)))?;
        Ok(Self { entry_symbol: entry_symbol.to_owned(), entry })
    }

    /// Calls the entry and compares abi_stable's versions. The root module's layout is still to be checked.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Entry`], [`HandshakeError::AbiVersion`] or [`HandshakeError::CAbi`].
    pub fn header(&self) -> Result<&'static LibHeader, HandshakeError> {
        let header = (self.entry)();
        if header.is_null() {
            return Err(no_entry(&self.entry_symbol, "it returns no header".to_owned()));
        }
        // SAFETY: `AbiHeaderRef` is a transparent wrapper of a pointer to a header that lives for ever. It is not null, and
        // the library is never unmapped. That it points to a header at all is the contract of the export macro; `upgrade`
        // compares its magic string.
        let header = unsafe { std::mem::transmute::<*const AbiHeader, AbiHeaderRef>(header) };
        Ok(header.upgrade()?)
    }

    /// The address of the entry, which differs between two copies of one plugin that are open: an equal one means that the
    /// loader gave an old copy again.
    pub fn entry_address(&self) -> usize {
        self.entry as usize
    }
}

fn no_entry(symbol: &str, words: String) -> HandshakeError {
    HandshakeError::Entry { symbol: symbol.to_owned(), words }
}

fn describe(header: &AbiHeader) -> String {
    // Padded to its 32 bytes.
    let magic = header.magic_string.trim_ascii_end();
    format!("'{}' {}.{}", magic.escape_ascii(), header.abi_major, header.abi_minor)
}

fn numbers(numbers: &[u32]) -> String {
    match numbers {
        [] => "none".to_owned(),
        _ => numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    }
}
