//! Counts allocations and the bytes in use: what a session costs is what is held for it, whatever the allocator keeps beside.
//!
//! It begins when somebody asks: threads that count together wait for each other, and would be slower where time is measured.

#![expect(unsafe_code, reason = "an allocator's methods are unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

static COUNTS: AtomicBool = AtomicBool::new(false);

static IN_USE: AtomicIsize = AtomicIsize::new(0);

static MADE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

/// How many bytes more are in use now than when it was asked for the first time; fewer are below zero.
pub fn in_use() -> isize {
    COUNTS.store(true, Ordering::Relaxed);
    IN_USE.load(Ordering::Relaxed)
}

/// How many allocations were made since it was asked for the first time.
pub fn made() -> usize {
    COUNTS.store(true, Ordering::Relaxed);
    MADE.load(Ordering::Relaxed)
}

/// Notes that memory was had.
fn had(memory: *mut u8, more: isize) -> *mut u8 {
    if COUNTS.load(Ordering::Relaxed) && !memory.is_null() {
        IN_USE.fetch_add(more, Ordering::Relaxed);
        MADE.fetch_add(1, Ordering::Relaxed);
    }
    memory
}

// SAFETY: all is done by the system's allocator; only its calls are counted. A size is at most `isize::MAX`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as our caller promises.
        had(unsafe { System.alloc(layout) }, layout.size() as isize)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as our caller promises.
        had(unsafe { System.alloc_zeroed(layout) }, layout.size() as isize)
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as our caller promises.
        had(unsafe { System.realloc(memory, layout, size) }, size as isize - layout.size() as isize)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if COUNTS.load(Ordering::Relaxed) {
            IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        }
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}
