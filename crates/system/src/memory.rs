//! Memory that is there sooner: two hints, one to the processor and one to the kernel, after which every byte is what it was.
//!
//! **Prefetches.** A read that misses the caches holds up everything after it as soon as the processor's window is full,
//! after some 200 instructions; a prefetch holds up nothing, so as many as the processor can have under way are. On
//! anything but x86-64 it does nothing, which costs nothing but time: the standard library has a stable prefetch for no
//! other processor yet.
//!
//! **Huge pages.** Before a line of memory can be fetched, its page has to be found, and with a hundred megabytes in use most
//! pages are not in the processor's TLB. A huge page stands for 512 others.
//!
//! `docs/decisions/0004-look-ahead.md` has the numbers of both.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io, thread};

/// Asks for all cache lines of `value`.
#[inline]
pub fn prefetch<T>(value: &T) {
    prefetch_bytes(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for all cache lines of what is shared, and of the counts that lie before it.
#[inline]
pub fn prefetch_shared<T>(value: &Arc<T>) {
    prefetch_bytes(counts_of(value), COUNTS + size_of::<T>());
}

/// Asks for the counts of what is shared, which a clone changes.
#[inline]
pub fn prefetch_counts<T>(value: &Arc<T>) {
    prefetch_bytes(counts_of(value), COUNTS);
}

/// How long the counts are and where they lie: nobody's promise. Where they do not, a line too many or too few is asked for.
const COUNTS: usize = 2 * size_of::<usize>();

fn counts_of<T>(value: &Arc<T>) -> *const u8 {
    Arc::as_ptr(value).cast::<u8>().wrapping_sub(COUNTS)
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

/// Asks for huge pages as a crowd grows; never for a small one, whose pages are all in the TLB.
#[derive(Debug, Default)]
pub struct HugePages {
    /// The size of the crowd when it last asked.
    asked_at: AtomicUsize,
}

impl HugePages {
    /// A crowd of so many has some ten megabytes of connections, about what a TLB of 2,048 pages stands for.
    const EVERY: usize = 1 << 16;

    /// Tells of a crowd's size. Every now and then, and not again for a size there has been, it asks: in a thread of its own,
    /// because the kernel copies what it gathers, half a millisecond for each two megabytes.
    pub fn grown_to(&self, connections: usize) {
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        if connections < asked_at + Self::EVERY {
            return;
        }
        let turn =
            self.asked_at.compare_exchange(asked_at, connections, Ordering::Relaxed, Ordering::Relaxed);
        if turn.is_ok() {
            // Without a thread, or where the kernel has no huge pages to give, everything goes on as it was.
            let _ = thread::Builder::new().name("huge-pages".into()).spawn(use_huge_pages);
        }
    }
}

/// Asks the kernel to gather this process's heap in huge pages, what there is of it at once.
///
/// # Errors
/// When the kernel does not say what is mapped. That it has no huge pages to give is no error.
fn use_huge_pages() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    for heap in maps.lines().filter_map(heap_of) {
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
            let start = std::ptr::without_provenance_mut(heap.start);
            // SAFETY: whatever is mapped there by now, neither advice changes what can be read from it or whether it can
            // be: they are about the size of pages (madvise(2)). Nothing is accessed by way of this pointer.
            unsafe { libc::madvise(start, heap.len(), advice) };
        }
    }
    Ok(())
}

/// The addresses of a line of /proc/self/maps (proc_pid_maps(5)), if that is memory an allocator may have asked for: private, of no
/// file, large enough to hold a huge page, and writable or yet to become so. What a thread's heap has reserved to grow into
/// counts: what is asked for the whole stays in one piece, and each piece has an end that fills no huge page.
fn heap_of(line: &str) -> Option<Range<usize>> {
    const HUGE_PAGE: usize = 2 << 20;
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, _offset, _device, inode) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let anonymous = match fields.next() {
        None | Some("[heap]") => inode == "0",
        Some(name) => name.starts_with("[anon:"),
    };
    let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    (matches!(permissions, "rw-p" | "---p") && anonymous && range.len() >= HUGE_PAGE).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_what_is_private_of_no_file_and_writable_or_reserved() {
        let heaps = [
            ("55c0a0000000-55c0a0400000 rw-p 00000000 00:00 0                          [heap]", true),
            ("7f0000000000-7f0000200000 rw-p 00000000 00:00 0 ", true),
            ("7f0000000000-7f0000200000 rw-p 00000000 00:00 0 [anon: glibc: malloc arena]", true),
            ("7f0000000000-7f00001ff000 rw-p 00000000 00:00 0 ", false),
            ("7f0000000000-7f0000400000 ---p 00000000 00:00 0 ", true),
            ("7f0000000000-7f0000400000 ---p 00000000 fe:00 77 /usr/lib/libc.so.6", false),
            ("7f0000000000-7f0000400000 r--p 00000000 00:00 0 ", false),
            ("7f0000000000-7f0000400000 rw-s 00000000 00:01 5 /dev/shm/ring", false),
            ("7f0000000000-7f0000400000 rw-p 00000000 fe:00 77 /usr/lib/libc.so.6", false),
            ("7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0 [stack]", false),
            ("7f0000000000", false),
            ("", false),
        ];
        for (line, is_heap) in heaps {
            assert_eq!(heap_of(line).is_some(), is_heap, "{line}");
        }
        assert_eq!(heap_of(heaps[0].0), Some(0x55c0_a000_0000..0x55c0_a040_0000));
    }

    #[test]
    fn a_crowd_asks_once_for_each_step_that_it_grows() {
        let pages = HugePages::default();
        let asked_at = |connections| {
            pages.grown_to(connections);
            pages.asked_at.load(Ordering::Relaxed)
        };
        assert_eq!(asked_at(HugePages::EVERY - 1), 0);
        assert_eq!(asked_at(HugePages::EVERY), HugePages::EVERY);
        assert_eq!(asked_at(HugePages::EVERY - 1), HugePages::EVERY, "it shrank");
        assert_eq!(asked_at(HugePages::EVERY + 1), HugePages::EVERY, "it came back");
        assert_eq!(asked_at(2 * HugePages::EVERY + 5), 2 * HugePages::EVERY + 5);
    }
}
