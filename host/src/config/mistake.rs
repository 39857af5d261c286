//! A mistake in the configuration: where it is, which key, what was expected and what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use figment::error::Kind;
use figment::value::Value;

use super::nearest::nearest;

/// All mistakes of a configuration, one in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where the user wrote it.
    pub place: Place,
    /// The key with its section, such as `etcd.root_path`; empty where it concerns the whole file.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The file, with the line (from 1) where it is known.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line.
        line: Option<usize>,
    },
    /// A variable of the environment.
    Variable(String),
}

/// Where the user wrote the keys of a table, by their path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(pub(super) BTreeMap<Vec<String>, Place>);

impl Places {
    /// The place of a dotted key: its own, or that of the nearest table around it; `None` where the user wrote neither.
    pub fn of(&self, key: &str) -> Option<&Place> {
        let path: Vec<String> = key.split(['.', '[']).map(str::to_owned).collect();
        (1..=path.len()).rev().find_map(|length| self.0.get(&path[..length]))
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file cannot be read.
    Unreadable(String),
    /// The file is not TOML.
    Syntax(String),
    /// There is no such key.
    Unknown {
        /// What can stand in its place: the nearest, or all where none is near.
        instead: Vec<String>,
    },
    /// The value has another type or form.
    Wrong {
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The value has the right form, and cannot be used.
    Value(String),
}

impl Problem {
    /// A key or a section that does not exist. `full` makes the name that the user would write.
    pub(super) fn unknown<'a>(
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
        full: impl Fn(&str) -> String,
    ) -> Self {
        Self::Unknown { instead: nearest(name, known).into_iter().map(full).collect() }
    }

    /// What figment says of one value that was tried alone.
    pub(super) fn from_figment(kind: &Kind, value: &Value, full: impl Fn(&str) -> String) -> Self {
        match kind {
            Kind::UnknownField(name, known) => Self::unknown(name, known.iter().copied(), full),
            Kind::UnknownVariant(found, known) => {
                let known: Vec<_> = known.iter().map(|each| format!("\"{each}\"")).collect();
                Self::Wrong { expected: known.join(" or "), found: format!("{found:?}") }
            }
            Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
                Self::Wrong { expected: plain(expected), found: shown(value) }
            }
            // The text of the standard library's parser, which does not say what would do.
            Kind::Message(text) if text == "invalid socket address syntax" => {
                Self::Wrong { expected: "ip:port such as 127.0.0.1:0".to_owned(), found: shown(value) }
            }
            other => Self::Value(format!("{other}, found {}", shown(value))),
        }
    }
}

/// What serde expects, in the words of TOML and of the reference.
fn plain(expected: &str) -> String {
    let words = match expected {
        "a duration" => "a duration such as \"5s\"",
        "a string" | "string" | "path string" => "a text",
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "true or false",
        "f64" => "a number",
        "u16" | "u32" | "u64" | "usize" => "a whole number",
        other => other,
    };
    words.to_owned()
}

/// A value as the user would write it.
fn shown(value: &Value) -> String {
    match toml::Value::try_from(value) {
        Ok(value) => value.to_string(),
        Err(_) => format!("{value:?}"),
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(formatter, "{count} {} in the configuration:", if count == 1 { "mistake" } else { "mistakes" })?;
        self.0.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        write!(formatter, "{}", self.problem)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(formatter, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(formatter, "{}", path.display()),
            Self::Variable(name) => formatter.write_str(name),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(formatter, "cannot be read: {error}"),
            Self::Syntax(error) => write!(formatter, "not valid TOML: {error}"),
            Self::Unknown { instead } => match instead.as_slice() {
                [] => formatter.write_str("unknown"),
                [only] => write!(formatter, "unknown; the nearest known one is {only}"),
                several => write!(formatter, "unknown; known are {}", several.join(", ")),
            },
            Self::Wrong { expected, found } => write!(formatter, "expected {expected}, found {found}"),
            Self::Value(text) => formatter.write_str(text),
        }
    }
}
