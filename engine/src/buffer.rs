//! A queue of bytes that gives its memory back.

use std::mem;

/// A drained buffer that grew beyond this gives its memory back.
const KEEP_BYTES: usize = 1024;

/// Bytes that come in at the back and go out at the front.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(crate) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn front(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Where bytes are appended, and nothing else is done.
    ///
    /// What went out at the front gives its room back first, as soon as it is no less than what is left and has to be
    /// moved: so a buffer that is never empty costs one more copy at most, and holds twice what it should at most.
    pub(crate) fn back(&mut self) -> &mut Vec<u8> {
        if self.start >= KEEP_BYTES && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let start = mem::take(&mut self.start);
        let mut bytes = mem::take(&mut self.bytes);
        bytes.drain(..start);
        bytes
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.bytes.len() {
            self.start = 0;
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_buffer_gives_large_memory_back_and_keeps_small() {
        let mut small = Buffer::new(vec![1; 100]);
        small.consume(40);
        assert_eq!((small.len(), small.front().len()), (60, 60));
        small.consume(60);
        assert!(small.bytes.capacity() >= 100);
        let mut large = Buffer::new(vec![1; KEEP_BYTES + 1]);
        large.consume(KEEP_BYTES + 1);
        assert_eq!(large.bytes.capacity(), 0);
    }

    #[test]
    fn a_buffer_that_is_never_empty_stays_small_and_keeps_the_order() {
        let mut buffer = Buffer::default();
        let (mut came, mut went) = (0_u64, 0_u64);
        while went < 100 << 20 {
            while buffer.len() < 64 * 1024 {
                buffer.back().extend_from_slice(&came.to_be_bytes());
                came += 8;
            }
            while buffer.len() > 32 * 1024 {
                let front = buffer.front()[..8].try_into().unwrap();
                assert_eq!(u64::from_be_bytes(front), went);
                buffer.consume(8);
                went += 8;
            }
            assert!(buffer.bytes.capacity() <= 256 * 1024, "{} bytes for 64 KiB", buffer.bytes.capacity());
        }
    }
}
