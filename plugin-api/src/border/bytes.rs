//! Buffers across the border: shared by reference count, not copied.

use std::sync::atomic::{AtomicUsize, Ordering};

use abi_stable::StableAbi;
use bytes::Bytes;

/// Buffers up to this size are copied by the receiver: cheaper than a reference that has to be given back.
const COPIED_UP_TO: usize = 512;

/// Buffers that this side has handed out and not got back. Each loaded plugin has a copy of this crate, and so a count of
/// its own.
static LENT: AtomicUsize = AtomicUsize::new(0);

/// How many buffers of this side the other one still holds.
pub fn lent() -> usize {
    LENT.load(Ordering::Acquire)
}

/// A buffer of the other side: pointer, length and the owner's way to get it back.
#[repr(C)]
#[derive(StableAbi)]
pub struct FfiBytes {
    start: *const u8,
    length: usize,
    owner: *mut (),
    give_back: unsafe extern "C" fn(*mut ()),
}

// SAFETY: it stands for a `Bytes`, which is both, and is given back from any thread by dropping that `Bytes`.
unsafe impl Send for FfiBytes {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for FfiBytes {}

impl From<Bytes> for FfiBytes {
    fn from(bytes: Bytes) -> Self {
        LENT.fetch_add(1, Ordering::Relaxed);
        let owner = Box::new(bytes);
        Self { start: owner.as_ptr(), length: owner.len(), owner: Box::into_raw(owner).cast(), give_back }
    }
}

unsafe extern "C" fn give_back(owner: *mut ()) {
    // SAFETY: `owner` was made by `Box::into_raw` above and is given back once, by `FfiBytes::drop`. Dropping a `Bytes`
    // does not unwind unless a foreign owner's drop does, and those of this crate do not.
    drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    LENT.fetch_sub(1, Ordering::Release);
}

impl Drop for FfiBytes {
    fn drop(&mut self) {
        // SAFETY: the function is the one that came with this owner, and this is the only call of it.
        unsafe { (self.give_back)(self.owner) }
    }
}

impl AsRef<[u8]> for FfiBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the owner's `Bytes` lives until `drop`, and never moves or changes what it points to.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl From<FfiBytes> for Bytes {
    fn from(bytes: FfiBytes) -> Self {
        if bytes.length <= COPIED_UP_TO { Self::copy_from_slice(bytes.as_ref()) } else { Self::from_owner(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_crosses_and_is_given_back() {
        for size in [1, COPIED_UP_TO, COPIED_UP_TO + 1, 1 << 20] {
            let sent = Bytes::from(vec![7; size]);
            let crossed = Bytes::from(FfiBytes::from(sent.clone()));
            assert_eq!(crossed, sent);
            drop(crossed);
            assert!(sent.is_unique(), "a reference to {size} bytes is left over");
        }
    }
}
