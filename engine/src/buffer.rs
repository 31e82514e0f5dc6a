//! A queue of bytes that gives its memory back.

use std::mem;

/// A drained buffer that grew beyond this gives its memory back.
const KEEP_BYTES: usize = 1024;

/// Bytes that come in at the back and go out at the front.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
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
}
