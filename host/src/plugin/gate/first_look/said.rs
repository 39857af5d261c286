//! What the child of a first look says: lines of JSON on its standard output, where a plugin may write as well.

use plugin_api::border::v1::component::LifeError;
use plugin_api::descriptor::Descriptor;
use serde::{Deserialize, Serialize};

use super::{FirstLook, Stage};
use crate::plugin::gate::handshake::HandshakeError;

/// A line that the child writes. Anything else on its standard output is the plugin's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Stage(Stage),
    Seen(Box<FirstLook>),
    Refused(HandshakeError),
    Described(Box<Described>),
}

/// What a component of an empty configuration says of itself, without a role where it plays any; or why its constructor
/// makes none of such a configuration.
pub type Described = Result<Descriptor, LifeError>;

/// All that was said.
#[derive(Debug)]
pub(super) struct Said {
    /// How far it came.
    pub stage: Stage,
    /// What was seen, if it came so far.
    pub seen: Option<Result<FirstLook, HandshakeError>>,
    /// What the component said, if it came so far.
    pub described: Option<Described>,
    /// The first line that the plugin wrote there.
    pub wrote: Option<String>,
}

impl Said {
    /// Of the child's standard output.
    pub fn of(text: &str) -> Self {
        let mut said = Self { stage: Stage::Starting, seen: None, described: None, wrote: None };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(Line::Stage(reached)) => said.stage = reached,
                Ok(Line::Seen(seen)) => said.seen = Some(Ok(*seen)),
                Ok(Line::Refused(error)) => said.seen = Some(Err(error)),
                Ok(Line::Described(described)) => said.described = Some(*described),
                Err(_) => said.wrote = said.wrote.or_else(|| Some(shown(line))),
            }
        }
        said
    }
}

/// A line of whatever a plugin writes, so that it can be shown.
fn shown(line: &str) -> String {
    /// More would say no more.
    const LONGEST: usize = 100;
    let line: String =
        line.trim().chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST).chain(['…']).collect() }
}

/// The last line of a text, and the one before: a panic's message has two.
pub(super) fn last_words(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(2)..].join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_writes_is_told_from_what_the_child_says() {
        let stage = serde_json::to_string(&Line::Stage(Stage::Asking)).expect("JSON");
        let said = Said::of(&format!("\n\nhello\x07 {{\n{{\"stage\":7}}\n\n{stage}\n\n"));
        assert_eq!((said.stage, said.wrote.as_deref()), (Stage::Asking, Some("hello\u{fffd} {")));
        assert!(said.seen.is_none() && said.described.is_none());
        assert_eq!(Said::of(&format!("\n{stage}\n")).wrote, None);
        let long = Said::of(&"é".repeat(1000)).wrote.expect("it wrote");
        assert_eq!((long.chars().count(), long.chars().last()), (101, Some('…')));
    }
}
