//! Keys of thread-local data (`pthread_key_create`), of which a process has 1,024 once and for all. Each library has a
//! standard library of its own, which takes one at its first use and ends the process where there is none; and a library is
//! never unmapped. So it is looked before another one is opened.

#![allow(unsafe_code, reason = "only libc tells how many are left, by giving them out")]

/// So many have to be left for another library: what it takes itself, what others that are opened at the same time take, and
/// some for the host's own.
pub const NEEDED: usize = 16;

/// Are there so many left?
pub fn are_left(count: usize) -> bool {
    let taken: Vec<_> = std::iter::from_fn(take).take(count).collect();
    let enough = taken.len() == count;
    for key in taken {
        // SAFETY: it was taken above, and nobody has stored anything under it.
        unsafe { libc::pthread_key_delete(key) };
    }
    enough
}

fn take() -> Option<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: the key is written to a variable that lives; it has no destructor.
    let taken = unsafe { libc::pthread_key_create(&raw mut key, None) };
    (taken == 0).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seen_that_there_are_too_few_and_all_are_given_back() {
        assert!(are_left(NEEDED));
        // More than a process ever has.
        assert!(!are_left(5000));
        assert!(are_left(NEEDED));
    }
}
