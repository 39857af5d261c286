//! How a session's machine is driven: as the host does it, and with faults that others have had.

/// What is done otherwise.
pub trait Fault: 'static {
    /// Transactions compare what they depend on.
    const COMPARES: bool = true;
    /// The deadline is counted from an answer's arrival in place of its request's sending.
    const COUNTS_FROM_THE_ANSWER: bool = false;
    /// Another server id after the lease was lost.
    const TAKES_ANOTHER_ID: bool = false;
}

/// As the host does it.
pub struct Sound;

impl Fault for Sound {}

/// Puts the key, and removes that of others, without comparing.
pub struct PutsWithoutComparing;

impl Fault for PutsWithoutComparing {
    const COMPARES: bool = false;
}

/// Believes in a lease for as long as the answer took.
pub struct CountsFromTheAnswer;

impl Fault for CountsFromTheAnswer {
    const COUNTS_FROM_THE_ANSWER: bool = true;
}

/// Begins anew as somebody else when its lease is lost.
pub struct TakesAnotherId;

impl Fault for TakesAnotherId {
    const TAKES_ANOTHER_ID: bool = true;
}
