//! The short and the long form of a test: with the variable `FULL=1` tests last as long as what they are about does outside.

/// The long form was asked for.
pub fn is_full() -> bool {
    std::env::var_os("FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// The one for every day, or the one of the long form.
pub fn short_or_full<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}
