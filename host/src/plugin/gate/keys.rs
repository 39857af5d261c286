//! Keys of thread-local data (`pthread_key_create`), of which a process has a number (1,024 with glibc) once and for all. Each library has a
//! standard library of its own, which takes one at its first use and ends the process where there is none; and a library is
//! never unmapped. So it is looked before another one is opened.

#![allow(unsafe_code, reason = "only libc tells how many are left, by giving them out")]

/// So many have to be left for another library: what it takes itself, what others that are opened at the same time take, and
/// some for the host's own.
pub const NEEDED: usize = 16;

/// Are there so many left?
pub fn are_left(count: usize) -> bool {
    let given_back = |key| {
        // SAFETY: it was taken by `take`, and nobody has stored anything under it.
        unsafe { libc::pthread_key_delete(key) };
    };
    can_take(count, take, given_back)
}

/// All that were taken are given back.
fn can_take<K>(count: usize, take: impl FnMut() -> Option<K>, give_back: impl FnMut(K)) -> bool {
    let taken: Vec<_> = std::iter::from_fn(take).take(count).collect();
    let enough = taken.len() == count;
    taken.into_iter().for_each(give_back);
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
    fn too_few_are_seen_and_all_that_were_taken_are_given_back() {
        // Not the process' own: whoever needs one while there is none ends it.
        for (left, enough) in [(5, true), (4, true), (3, false), (0, false)] {
            let (mut free, mut back) = (left, 0);
            let take = || (free > 0).then(|| free -= 1);
            assert_eq!(can_take(4, take, |()| back += 1), enough);
            assert_eq!((back, free), (left.min(4), left - left.min(4)));
        }
    }

    #[test]
    fn a_look_costs_no_key() {
        // In all, many times more than there are.
        for _ in 0..1000 {
            assert!(are_left(NEEDED));
        }
    }
}
