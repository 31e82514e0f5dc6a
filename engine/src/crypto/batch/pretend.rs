//! Machines that tests are not run on.

use core::cell::Cell;
use core::marker::PhantomData;
use std::io;

use super::Unavailable;
pub(crate) use super::kernels::Kernel;
use super::kernels::Kernels;

/// What a machine is like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Machine {
    /// It computes what it should, as the twin does, and has as much memory for secrets as this one.
    Able,
    /// Its CPU has no AVX-512 IFMA.
    WithoutIfma,
    /// A kernel gets one lane wrong.
    Faulty(Kernel),
    /// Its memory for secrets ends after so many pieces.
    WithMemory(usize),
}

thread_local! {
    static MACHINE: Cell<Option<Machine>> = const { Cell::new(None) };
}

/// This thread is on another machine for as long as the value lives.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pretence(PhantomData<*const ()>);

impl Machine {
    pub(crate) fn pretend(self) -> Pretence {
        MACHINE.set(Some(self));
        Pretence(PhantomData)
    }
}

impl Drop for Pretence {
    fn drop(&mut self) {
        MACHINE.set(None);
    }
}

/// The kernels of the machine that this thread pretends to be on.
pub(super) fn machine() -> Option<Result<Kernels, Unavailable>> {
    Some(match MACHINE.get()? {
        Machine::Able | Machine::WithMemory(_) => Ok(Kernels::Portable),
        Machine::WithoutIfma => Err(Unavailable::NoIfma),
        Machine::Faulty(kernel) => Ok(Kernels::Faulty(kernel, 3)),
    })
}

/// Takes a piece of the memory there.
pub(super) fn memory() -> io::Result<()> {
    if let Some(Machine::WithMemory(pieces)) = MACHINE.get() {
        let left = pieces.checked_sub(1).ok_or(io::ErrorKind::InvalidInput)?;
        MACHINE.set(Some(Machine::WithMemory(left)));
    }
    Ok(())
}
