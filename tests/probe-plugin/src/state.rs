//! What one generation of a probe hands to another: the numbers that it may still give out.
//!
//! Each edition reads the states of both; what it does not know in a state it ignores, unless the state says that it must
//! be known.

use std::ops::Range;

use plugin_api::component::Snapshot;
use serde::{Deserialize, Serialize};

use crate::edition::Edition;
use crate::knobs::StateLie;

/// The state of all editions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// The oldest format whose readers understand it.
    readable_since: u32,
    /// The next number.
    pub next: u64,
    /// The first number that is not reserved.
    pub end: u64,
    /// How often second editions have taken a state over: a field that first editions do not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_by_second: Option<u64>,
}

/// Why a state is not taken.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("a state of the format {version}, of {bytes} bytes, cannot be read")]
    Unreadable { version: u32, bytes: usize, source: serde_json::Error },
    #[error("the state can be read from the format {since} on, and this edition has {own}")]
    TooNew { since: u32, own: u32 },
}

impl State {
    /// With these numbers.
    pub fn new(numbers: &Range<u64>, taken_by_second: Option<u64>) -> Self {
        Self { readable_since: 1, next: numbers.start, end: numbers.end, taken_by_second }
    }

    /// On its way, with what is wrong with it.
    pub fn give(self, edition: Edition, lie: Option<StateLie>) -> Snapshot {
        let state = match lie {
            Some(StateLie::Later) => Self { readable_since: 99, ..self },
            _ => self,
        };
        let bytes = match lie {
            Some(StateLie::Garbage) => b"\0garbage".to_vec(),
            _ => serde_json::to_vec(&state).expect("numbers are JSON"),
        };
        Snapshot { state_version: edition.state_version(), bytes, files: Vec::new() }
    }

    /// From another generation.
    pub fn take(snapshot: &Snapshot, edition: Edition) -> Result<Self, StateError> {
        let unreadable =
            |source| StateError::Unreadable { version: snapshot.state_version, bytes: snapshot.bytes.len(), source };
        let state: Self = serde_json::from_slice(&snapshot.bytes).map_err(unreadable)?;
        let own = edition.state_version();
        if state.readable_since > own {
            return Err(StateError::TooNew { since: state.readable_since, own });
        }
        Ok(match edition {
            Edition::First => Self { taken_by_second: None, ..state },
            Edition::Second => Self { taken_by_second: Some(state.taken_by_second.unwrap_or_default() + 1), ..state },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edition_reads_what_the_other_gives() {
        let given = State::new(&(3..10), None);
        for (from, to) in [(Edition::First, Edition::Second), (Edition::Second, Edition::First)] {
            let taken = State::take(&given.give(from, None), to).expect("a state");
            assert_eq!((taken.next, taken.end), (3, 10));
            assert_eq!(taken.taken_by_second.is_some(), to == Edition::Second);
        }
        let twice = State::take(&given.give(Edition::First, None), Edition::Second).expect("a state");
        let twice = State::take(&twice.give(Edition::Second, None), Edition::Second).expect("a state");
        assert_eq!(twice.taken_by_second, Some(2));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let refused = |lie| State::take(&State::new(&(3..10), None).give(Edition::Second, Some(lie)), Edition::First);
        assert!(matches!(refused(StateLie::Garbage), Err(StateError::Unreadable { version: 2, .. })));
        assert!(matches!(refused(StateLie::Later), Err(StateError::TooNew { since: 99, own: 1 })));
    }
}
