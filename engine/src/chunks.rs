//! A vector in pieces of one size: growing copies nothing of what it holds.
//!
//! A shard keeps tables with an entry for each connection. As one vector each would pause the shard for a copy whenever
//! it doubles, and leave its former places behind, larger than what connections allocate.

use std::ops::{Index, IndexMut};

/// At most so many bytes in a piece: no larger than the buffers that connections have anyway.
const CHUNK_BYTES: usize = 16 * 1024;

/// A vector that neither moves its values nor gives memory back.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    /// All but the last are full.
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Chunks<T> {
    /// Values in a piece; a power of two, so that finding one takes no division.
    const PER_CHUNK: usize = {
        let size = size_of::<T>();
        match CHUNK_BYTES.checked_div(size) {
            Some(0) => 1,
            Some(n) => 1 << n.ilog2(),
            None => CHUNK_BYTES,
        }
    };

    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / Self::PER_CHUNK)?.get(index % Self::PER_CHUNK)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / Self::PER_CHUNK)?.get_mut(index % Self::PER_CHUNK)
    }

    pub(crate) fn push(&mut self, value: T) {
        self.len += 1;
        match self.chunks.last_mut() {
            Some(last) if last.len() < Self::PER_CHUNK => last.push(value),
            last => {
                // Whoever has few grows as any vector does.
                let capacity = if last.is_some() { Self::PER_CHUNK } else { 1 };
                let mut chunk = Vec::with_capacity(capacity);
                chunk.push(value);
                self.chunks.push(chunk);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }
}

/// Panics beyond the end, as a vector does.
impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.chunks[index / Self::PER_CHUNK][index % Self::PER_CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / Self::PER_CHUNK][index % Self::PER_CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are_and_keep_their_order() {
        let mut chunks = Chunks::new();
        let count = 3 * Chunks::<[usize; 5]>::PER_CHUNK + 1;
        let mut second = None;
        for i in 0..count {
            chunks.push([i; 5]);
            assert_eq!(chunks.len(), i + 1);
            if i == Chunks::<[usize; 5]>::PER_CHUNK {
                second = Some(std::ptr::from_ref(&chunks[i]));
            }
        }
        assert_eq!(second, Some(std::ptr::from_ref(&chunks[Chunks::<[usize; 5]>::PER_CHUNK])));
        assert!((0..count).all(|i| chunks[i] == [i; 5] && chunks.get(i) == Some(&[i; 5])));
        assert!(chunks.iter().enumerate().all(|(i, value)| *value == [i; 5]));
        assert!(chunks.get(count).is_none() && chunks.get_mut(count).is_none());
        chunks[count - 1] = [0; 5];
        assert_eq!(chunks.iter_mut().last(), Some(&mut [0; 5]));
    }

    #[test]
    fn pieces_are_as_large_as_they_may_be() {
        assert_eq!(Chunks::<u8>::PER_CHUNK, CHUNK_BYTES);
        assert_eq!(Chunks::<[u8; 40]>::PER_CHUNK, 256);
        assert_eq!(Chunks::<[u8; 2 * CHUNK_BYTES]>::PER_CHUNK, 1);
        let mut chunks = Chunks::new();
        (0..CHUNK_BYTES + 1).for_each(|_| chunks.push(0_u8));
        assert!(chunks.chunks.iter().all(|chunk| chunk.capacity() <= CHUNK_BYTES));
    }
}
