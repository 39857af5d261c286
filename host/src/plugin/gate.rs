//! The gate: may this file be opened as a plugin?
//!
//! Opening a library runs its code, so everything that can be known without opening is asked first: where the file lies
//! and who can write it ([`place`]), its hash, and whether it is a whole shared object of this machine with a plugin's
//! entry ([`elf`]). Then a private copy (`plugin::copy`) is opened in a child process ([`first_look`]), where a crash or a
//! hang is not ours. Only then does the loader open it here, by the same handshake ([`handshake`]) and with the same
//! comparison of layouts and build ([`agreement`]). What only a created component can say, its role and version, is
//! compared at the end ([`Allowed::check`]).
//!
//! The gate starts nothing and keeps nothing. It holds off mistakes and changes by other users; a plugin that is let in
//! runs with all of the host's rights.

pub mod agreement;
pub mod digest;
pub mod elf;
mod error;
pub mod first_look;
pub mod handshake;
pub mod keys;
pub mod place;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use plugin_api::identity::Role;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

pub use self::digest::Digest;
use self::elf::Contents;
pub use self::elf::Mapped;
pub use self::error::{GateError, Looked};
use self::place::PlaceRules;

/// Section `[plugins]`: where plugins are looked for, and how they are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// Directories that a plugin may lie in or below; a name is looked up in them in this order, after the executable's
    /// own folder. Default none: what is installed or built together lies together.
    pub dirs: Vec<PathBuf>,
    /// Nobody but root and the host's user may be able to write a plugin, or any directory from this one down to it.
    /// Directories above this one are not checked. Default `/`, so that all are.
    pub trusted_root: PathBuf,
    /// Is a plugin opened in a child process first? Default `true`: constructors run when a library is opened, and a crash
    /// or a hang there must not be the host's.
    pub first_look: bool,
    /// How long the first look may take. Default `5s`: opening takes less than a millisecond, so that this is a hang even
    /// on a slow disk.
    #[serde(with = "humantime_serde")]
    pub first_look_timeout: Duration,
    /// How much memory libraries may keep whose generations have ended. Default `1GiB`: they are never unmapped, so that
    /// whoever swaps on and on has to restart the host now and then.
    pub retired_memory_limit: ByteSize,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            dirs: Vec::new(),
            trusted_root: PathBuf::from("/"),
            first_look: true,
            first_look_timeout: Duration::from_secs(5),
            retired_memory_limit: ByteSize::gib(1),
        }
    }
}

impl PluginsConfig {
    /// All values that are out of range: key and text.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if self.dirs.iter().any(|dir| dir.as_os_str().is_empty()) {
            mistakes.push(("dirs", "an empty path is no directory; `.` is the current one".to_owned()));
        }
        if !self.trusted_root.is_absolute() {
            let found = self.trusted_root.display();
            mistakes.push(("trusted_root", format!("expected an absolute path, found '{found}'")));
        }
        if self.first_look_timeout.is_zero() {
            mistakes
                .push(("first_look_timeout", "expected more than 0s; `first_look = false` leaves it out".to_owned()));
        }
        mistakes
    }

    /// The plugin directories in the order of look-up: the executable's own folder, then `dirs`.
    pub fn search_dirs(&self) -> Vec<PathBuf> {
        let own = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
        own.into_iter().chain(self.dirs.iter().cloned()).collect()
    }

    fn place_rules<'a>(&'a self, dirs: &'a [PathBuf]) -> PlaceRules<'a> {
        let host_uid = rustix::process::geteuid().as_raw();
        PlaceRules { dirs, trusted_root: &self.trusted_root, host_uid }
    }
}

/// What the configuration allows for a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The role in whose section the plugin is named.
    pub role: Role,
    /// The versions of the component; `None` allows all.
    pub version: Option<VersionReq>,
    /// The pinned hash of the file; `None` allows all.
    pub sha256: Option<Digest>,
}

impl Allowed {
    /// Compares what a created component says of itself: its role (`None` plays any) and its version.
    ///
    /// # Errors
    ///
    /// [`GateError::Role`] or [`GateError::Version`].
    pub fn check(&self, path: &Path, role: Option<&Role>, version: &Version) -> Result<(), GateError> {
        if let Some(found) = role.filter(|role| **role != self.role) {
            let (expected, found) = (self.role.clone(), found.clone());
            return Err(GateError::Role { path: path.to_owned(), expected, found });
        }
        match &self.version {
            Some(expected) if !expected.matches(version) => {
                let (expected, found) = (expected.clone(), version.clone());
                Err(GateError::Version { path: path.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }
}

/// A file that has passed all checks that need no opening.
#[derive(Debug)]
pub struct Admitted {
    /// Where it lies, with all links resolved.
    pub path: PathBuf,
    /// The hash of its content.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its one entry symbol.
    pub entry_symbol: String,
    /// All symbols that it exports, that one among them; sorted.
    pub exported: Vec<String>,
    /// What of it is mapped.
    pub mapped: Mapped,
    /// The bytes that are mapped, of those that were looked at: what is copied is what passed, whatever becomes of the file.
    pub(super) image: Image,
    /// For the directory of copies, to which the same rule applies.
    pub(super) trusted_root: PathBuf,
}

/// What is mapped of a plugin; not shown.
pub(super) struct Image(pub(super) Vec<u8>);

impl fmt::Debug for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// The file that a plugin's name or path leads to.
///
/// A name has no slash: `querynode` is `libquerynode.so` in the first directory that has it (`query-node` is
/// `libquery_node.so`, as cargo names it). A path is taken as it is.
///
/// # Errors
///
/// [`GateError::NotFound`] with every place that was looked at.
pub fn find(name_or_path: &Path, dirs: &[PathBuf]) -> Result<PathBuf, GateError> {
    let name = name_or_path.to_str().filter(|name| !name.is_empty() && !name.contains('/'));
    let places = match name {
        None => vec![name_or_path.to_owned()],
        Some(name) => dirs.iter().map(|dir| dir.join(file_name(name))).collect(),
    };
    let mut looked = Vec::new();
    for path in places {
        match path.metadata() {
            Ok(_) => return Ok(path),
            Err(error) => looked.push(Looked { path, found: error.kind() }),
        }
    }
    Err(GateError::NotFound { name: name_or_path.to_owned(), looked })
}

fn file_name(name: &str) -> String {
    if name.ends_with(".so") { name.to_owned() } else { format!("lib{}.so", name.replace('-', "_")) }
}

/// All checks that need no opening: place, hash, ELF, entry symbol.
///
/// The file is opened once, and everything is said of what was opened.
///
/// # Errors
///
/// [`GateError`], of the first check that fails, in the order above: what lies in a wrong place is not read.
pub fn inspect(path: &Path, config: &PluginsConfig, allowed: &Allowed) -> Result<Admitted, GateError> {
    let (path, file) = place(path, config)?;
    Unread { path, file }.read(config, allowed.sha256)
}

/// The same for a file wherever it lies, that is only to be looked at; what is wrong with its place is given with it.
///
/// # Errors
///
/// [`GateError`], where there is no file or it is no plugin.
pub fn inspect_anywhere(path: &Path, config: &PluginsConfig) -> Result<(Admitted, Option<GateError>), GateError> {
    let (unread, place) = match place(path, config) {
        Ok((path, file)) => (Unread { path, file }, None),
        Err(wrong) => {
            let opened = place::open_anywhere(path);
            let (path, file) = opened.map_err(|source| GateError::Place { path: path.to_owned(), source })?;
            (Unread { path, file }, Some(wrong))
        }
    };
    Ok((unread.read(config, None)?, place))
}

fn place(path: &Path, config: &PluginsConfig) -> Result<(PathBuf, File), GateError> {
    let dirs = config.search_dirs();
    place::open_checked(path, &config.place_rules(&dirs))
        .map_err(|source| GateError::Place { path: path.to_owned(), source })
}

/// A file that was opened, and not read yet.
struct Unread {
    path: PathBuf,
    file: File,
}

impl Unread {
    fn read(self, config: &PluginsConfig, expected: Option<Digest>) -> Result<Admitted, GateError> {
        let Self { path, mut file } = self;
        let mut bytes = Vec::new();
        // Once, so that hash and symbol are of the same bytes even where somebody writes the file at this moment.
        file.read_to_end(&mut bytes).map_err(|source| GateError::Read { path: path.clone(), source })?;
        let sha256 = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != sha256) {
            return Err(GateError::Hash { path, expected, found: sha256 });
        }
        let Contents { entry_symbol, exported, mapped } =
            elf::read(&bytes).map_err(|source| GateError::NoPlugin { path: path.clone(), source })?;
        let trusted_root = config.trusted_root.clone();
        let size = bytes.len() as u64;
        mapped.keep(&mut bytes);
        bytes.shrink_to_fit();
        Ok(Admitted { path, sha256, size, entry_symbol, exported, mapped, image: Image(bytes), trusted_root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(version: Option<&str>) -> Allowed {
        let version = version.map(|text| text.parse().expect("a requirement"));
        Allowed { role: Role::new("querynode").expect("a role"), version, sha256: None }
    }

    fn check(allowed: &Allowed, role: Option<&str>, version: &str) -> Result<(), String> {
        let role = role.map(|role| Role::new(role).expect("a role"));
        let version = version.parse().expect("a version");
        allowed.check(Path::new("/x/lib.so"), role.as_ref(), &version).map_err(|error| error.to_string())
    }

    #[test]
    fn a_component_of_any_role_plays_the_one_it_is_named_for() {
        assert_eq!(check(&allowed(None), None, "1.0.0"), Ok(()));
        assert_eq!(check(&allowed(None), Some("querynode"), "1.0.0"), Ok(()));
        let text = check(&allowed(None), Some("rootcoord"), "1.0.0").expect_err("another role");
        for part in ["/x/lib.so", "rootcoord", "querynode"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn the_version_is_one_that_is_allowed() {
        assert_eq!(check(&allowed(Some(">=1.2, <2")), None, "1.3.0"), Ok(()));
        let text = check(&allowed(Some(">=1.2, <2")), None, "2.0.0").expect_err("another version");
        for part in [">=1.2, <2", "2.0.0"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn all_mistakes_are_told() {
        assert_eq!(PluginsConfig::default().mistakes(), []);
        let config = PluginsConfig {
            dirs: vec![PathBuf::new()],
            trusted_root: PathBuf::from("opt"),
            first_look_timeout: Duration::ZERO,
            ..PluginsConfig::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["dirs", "trusted_root", "first_look_timeout"]);
    }

    #[test]
    fn a_name_is_a_file_name_as_cargo_gives_it() {
        assert_eq!(file_name("querynode"), "libquerynode.so");
        assert_eq!(file_name("query-node"), "libquery_node.so");
        assert_eq!(file_name("libquerynode.so"), "libquerynode.so");
    }
}
