//! How much memory an evaluation holds: a wrapper of the allocator that counts the live bytes of each thread.
//!
//! Rhai limits each value but not their sum, so a script could hold gigabytes in ten thousand small values. Nothing else in
//! this program counts memory, and this is its only `unsafe` code. The count never refuses an allocation, since a refusal would abort
//! the process: the sandbox looks at it between operations and ends the script.
#![allow(unsafe_code)]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one evaluation may hold at a time.
pub const MEMORY_LIMIT_BYTES: usize = 32 << 20;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that any evaluation of this process has held, in bytes.
static HIGHEST_PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Constant and without a destructor: usable at every moment of a thread's life, and never allocating by itself.
    static COUNT: Cell<Count> = const { Cell::new(Count { live: 0, peak: 0, base: 0 }) };
}

/// Bytes, signed: a thread also frees what others allocated.
#[derive(Clone, Copy)]
struct Count {
    live: isize,
    peak: isize,
    base: isize,
}

struct Counting;

/// What allocates: after a burst of posts glibc's heap stays twice as large as what lives in it.
const INNER: MiMalloc = MiMalloc;

fn add(bytes: isize) {
    // Fails only while the thread is being torn down, when nothing is measured any more.
    let _ = COUNT.try_with(|count| {
        let mut now = count.get();
        now.live += bytes;
        now.peak = now.peak.max(now.live);
        count.set(now);
    });
}

fn signed(bytes: usize) -> isize {
    // A layout's size never exceeds isize::MAX: `Layout` guarantees it.
    bytes as isize
}

// SAFETY: every method hands its arguments unchanged to `INNER`, which fulfils the contract of `GlobalAlloc`, and returns what it
// returned. The counting beside it neither allocates nor panics: it adds integers in a thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `INNER.alloc`.
        let block = unsafe { INNER.alloc(layout) };
        if !block.is_null() {
            add(signed(layout.size()));
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe { INNER.alloc_zeroed(layout) };
        if !block.is_null() {
            add(signed(layout.size()));
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from this allocator with this layout, so it came from `INNER` with it.
        unsafe { INNER.dealloc(block, layout) };
        add(-signed(layout.size()));
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `block` came from `INNER` with this layout, and the caller vouches for `new_size`.
        let moved = unsafe { INNER.realloc(block, layout, new_size) };
        if !moved.is_null() {
            // On failure the old block lives on, and so does its count.
            add(signed(new_size) - signed(layout.size()));
        }
        moved
    }
}

/// Measures the evaluation that runs on this thread, from its making to its drop. One at a time a thread.
pub struct Meter(());

impl Meter {
    pub fn start() -> Self {
        COUNT.with(|count| {
            let live = count.get().live;
            count.set(Count { live, peak: live, base: live });
        });
        Meter(())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let peak = COUNT.with(|count| count.get().peak - count.get().base);
        HIGHEST_PEAK_BYTES.fetch_max(usize::try_from(peak).unwrap_or(0), Ordering::Relaxed);
    }
}

/// What the evaluation on this thread holds now, in bytes.
pub fn used_bytes() -> usize {
    COUNT.with(|count| usize::try_from(count.get().live - count.get().base).unwrap_or(0))
}

/// Does the evaluation on this thread hold more than it may?
pub fn exceeded() -> bool {
    used_bytes() > MEMORY_LIMIT_BYTES
}

/// The most that any evaluation of this process has held, in bytes.
pub fn highest_peak_bytes() -> usize {
    HIGHEST_PEAK_BYTES.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_holds_is_counted_and_given_back() {
        let _meter = Meter::start();
        let before = used_bytes();
        let mut held = vec![1_u8; 1 << 20];
        assert!(used_bytes() >= before + (1 << 20));
        held.resize(3 << 20, 2);
        assert!(used_bytes() >= before + (3 << 20));
        assert!(!exceeded());
        let more = vec![0_u8; MEMORY_LIMIT_BYTES];
        assert!(exceeded());
        drop(more);
        drop(held);
        assert!(used_bytes() < before + (1 << 20));
    }

    #[test]
    fn other_threads_do_not_count() {
        let _meter = Meter::start();
        let before = used_bytes();
        let elsewhere = std::thread::spawn(|| vec![0_u8; 8 << 20]).join().expect("allocates");
        assert!(used_bytes() < before + (1 << 20));
        // Freed here though never counted here: the count must not wrap.
        drop(elsewhere);
        assert_eq!(used_bytes(), 0);
        assert!(!exceeded());
    }
}
