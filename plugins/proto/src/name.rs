//! What can be the name of a collection: one rule for who creates them and who is asked for them.

use tonic::{Code, Status};

/// The longest name; Milvus' limit.
pub const MAX_NAME: usize = 255;

/// So much of a name that cannot be one is told, in characters.
const TOLD: usize = 64;

/// A name that cannot be one: `INVALID_ARGUMENT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "collection_name '{name}': it has to be a letter or underscore, then letters, digits and underscores, at most {MAX_NAME} \
     in all"
)]
pub struct BadName {
    name: String,
}

impl From<BadName> for Status {
    fn from(error: BadName) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

/// Can this be the name of a collection?
///
/// # Errors
///
/// [`BadName`], with as much of it as fits into an error.
pub fn check(name: &str) -> Result<(), BadName> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let goes_on_well = name.chars().all(|each| each.is_ascii_alphanumeric() || each == '_');
    if starts_well && goes_on_well && name.len() <= MAX_NAME {
        return Ok(());
    }
    let mut told: String = name.chars().take(TOLD).collect();
    if told.len() < name.len() {
        told.push('…');
    }
    Err(BadName { name: told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_underscores() {
        for name in ["c", "_", "C_1", &"x".repeat(MAX_NAME)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["", "1c", "a b", "a/b", "ä", "a\n", &"x".repeat(MAX_NAME + 1), &"ä".repeat(1_000_000)] {
            let error = check(name).unwrap_err().to_string();
            assert!(error.chars().count() < 200, "{error}");
        }
        let error = Status::from(check("a b").unwrap_err());
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with("collection_name 'a b': it has to be a letter"), "{error}");
    }
}
