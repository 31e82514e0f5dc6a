//! Memory for secrets: kept out of swap and core dumps where the system allows it, gone in a forked child, and wiped
//! before it is given back.

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::io;

use zeroize::Zeroize;

/// A plain value for which all zeros mean that nothing is there.
///
/// # Safety
/// Every byte may be zero, no byte is padding that matters, and dropping it does nothing.
pub(super) unsafe trait Blank {}

/// A value in pages of its own.
pub(super) struct Locked<T: Blank> {
    at: NonNull<T>,
}

// SAFETY: it owns its pages as a `Box` does, and they are of no thread.
unsafe impl<T: Blank + Send> Send for Locked<T> {}

/// A page, to see whether there are any.
struct Page {
    _bytes: [u8; 4096],
}

// SAFETY: an array of integers without a destructor.
unsafe impl Blank for Page {}

/// Whether the system gives such memory at all.
///
/// # Errors
/// It does not.
pub(super) fn probe() -> io::Result<()> {
    Locked::<Page>::zeroed().map(drop)
}

impl<T: Blank> Locked<T> {
    /// A value of zeros.
    ///
    /// # Errors
    /// The system gives no memory. That it cannot be locked is no error: an unprivileged process may lock little.
    pub(super) fn zeroed() -> io::Result<Self> {
        #[cfg(test)]
        super::pretend::memory()?;
        pages::map(size_of::<T>()).map(|at| Self { at: at.cast() })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the pages hold `size_of::<T>()` bytes at least, which are initialized from the start, and `self` is
        // borrowed for as long as the slice is.
        unsafe { core::slice::from_raw_parts_mut(self.at.as_ptr().cast(), size_of::<T>()) }
    }
}

impl<T: Blank> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the pages are aligned, were zeroed, and zeros are a value of `T`; nobody else has the pointer.
        unsafe { self.at.as_ref() }
    }
}

impl<T: Blank> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, and `self` is borrowed mutably.
        unsafe { self.at.as_mut() }
    }
}

impl<T: Blank> Drop for Locked<T> {
    fn drop(&mut self) {
        self.bytes().zeroize();
        pages::unmap(self.at.cast(), size_of::<T>());
    }
}

#[cfg(target_os = "linux")]
mod pages {
    use core::ptr::{NonNull, null_mut};
    use std::io;

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};

    pub(super) fn map(len: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: a new mapping wherever the kernel has room touches no memory that is in use.
        let at = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
        let pages = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // A forked child must not go on with our secrets; a kernel that cannot promise that is not worth the risk.
        // SAFETY: the mapping is ours, `len` bytes long and not referred to yet.
        if let Err(e) = unsafe { madvise(at, len, Advice::LinuxWipeOnFork) } {
            unmap(pages, len);
            return Err(e.into());
        }
        // SAFETY: as above; neither changes what the memory holds.
        unsafe {
            let _ = madvise(at, len, Advice::LinuxDontDump);
            let _ = mlock(at, len);
        }
        Ok(pages)
    }

    pub(super) fn unmap(at: NonNull<u8>, len: usize) {
        // SAFETY: the mapping is ours, and its owner is being dropped. Unmapping unlocks.
        let _ = unsafe { munmap(at.as_ptr().cast(), len) };
    }
}

/// Elsewhere there is the heap: wiped, but not locked.
#[cfg(not(target_os = "linux"))]
mod pages {
    use core::ptr::NonNull;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;

    const ALIGN: usize = 4096;

    pub(super) fn map(len: usize) -> io::Result<NonNull<u8>> {
        let layout = Layout::from_size_align(len, ALIGN).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: no secret is of size zero.
        NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    pub(super) fn unmap(at: NonNull<u8>, len: usize) {
        if let Ok(layout) = Layout::from_size_align(len, ALIGN) {
            // SAFETY: `map` gave it for the same layout.
            unsafe { dealloc(at.as_ptr(), layout) };
        }
    }
}
