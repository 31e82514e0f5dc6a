//! Batched cryptography of this machine, and what is done where there is none.

use std::fs;

use handfast::crypto::batch::{Batch, Unavailable};

use crate::peers::skipped;

/// What the kernels are compiled for, as Linux names it.
const NEEDED: [&str; 3] = ["avx512f", "avx512dq", "avx512ifma"];

/// Batched cryptography for a test; `None`, said on standard error, when the test, or this part of it, has to be skipped.
///
/// # Panics
/// When the CPU has all that it takes, or a self-test has failed.
#[must_use]
#[track_caller]
pub fn batch() -> Option<Batch> {
    // Other systems have no such file.
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    match allowed(Batch::detect(), &cpu) {
        Ok(batch) => Some(batch),
        Err(why) => {
            skipped(&why);
            None
        }
    }
}

/// What was found, where it is in order that nothing was.
#[track_caller]
fn allowed(found: Result<Batch, Unavailable>, cpu: &str) -> Result<Batch, Unavailable> {
    if let Err(why) = found {
        assert!(!is_able(cpu), "Linux says that this CPU has {}, but: {why}", NEEDED.join(", "));
        assert_eq!(why, Unavailable::NoIfma, "{why}");
    }
    found
}

/// Whether Linux says that the CPU has what the kernels need.
fn is_able(cpu: &str) -> bool {
    let flags = cpu.lines().find_map(|line| line.strip_prefix("flags")?.trim_start().strip_prefix(':'));
    flags.is_some_and(|flags| NEEDED.iter().all(|needed| flags.split_whitespace().any(|flag| flag == *needed)))
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const ABLE: &str = "processor\t: 0\nflags\t\t: fpu avx512f avx512dq sha_ni avx512ifma avx512bw\nbugs\t\t:\n";
    const UNABLE: &str = "processor\t: 0\nflags\t\t: fpu avx512f avx512dq avx512ifma_of_another_kind\n";

    #[test]
    fn only_a_cpu_that_cannot_is_let_off() {
        let passes = |why: Unavailable, cpu| catch_unwind(|| allowed(Err(why), cpu).is_err()).unwrap_or(false);
        for (cpu, passed) in [(ABLE, false), (UNABLE, true), ("", true)] {
            assert_eq!(passes(Unavailable::NoIfma, cpu), passed, "{cpu}");
            assert!(!passes(Unavailable::SelfTest("X25519 key agreement"), cpu), "{cpu}");
        }
    }
}
