//! Asking the processor for memory before it is needed, without waiting for it. The only unsafe code of the workspace.
//!
//! A read that misses the caches holds up everything after it as soon as the processor's window is full, after some 200
//! instructions; a prefetch holds up nothing, so as many as the processor can have under way are
//! (`docs/decisions/0004-look-ahead.md` has the numbers).
//!
//! On anything but x86-64 it does nothing, which costs nothing but time: the standard library has a stable prefetch for no
//! other processor yet.
#![allow(unsafe_code)]

use std::sync::Arc;

/// Asks for all cache lines of `value`.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_bytes(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for all cache lines of what is shared, and of the counts that lie before it.
#[inline]
pub(crate) fn prefetch_shared<T>(value: &Arc<T>) {
    /// Where they lie is nobody's promise; where they do not, a line too many or too few is asked for.
    const COUNTS: usize = 2 * size_of::<usize>();
    let start = Arc::as_ptr(value).cast::<u8>().wrapping_sub(COUNTS);
    prefetch_bytes(start, COUNTS + size_of::<T>());
}

#[inline]
fn prefetch_bytes(start: *const u8, size: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        const LINE: usize = 64;
        for offset in (0..size).step_by(LINE).chain(size.checked_sub(1)) {
            let place = start.wrapping_add(offset).cast();
            // SAFETY: a prefetch reads and writes nothing that a program can see, and raises no fault at any address
            // ("A PREFETCHh instruction is a hint and does not affect program behavior", Intel SDM volume 2). SSE is part
            // of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, size);
}
