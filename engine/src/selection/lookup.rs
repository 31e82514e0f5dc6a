//! From an ALPN protocol ID to its index, by a hash that was searched for until it separated the registered IDs.

use super::PROTOCOLS_MAX;

/// One cache line: four slots for each protocol there may be.
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();
/// No index: what an empty slot holds.
const EMPTY: u8 = 0xff;
/// The golden ratio's fraction: its multiples are spread evenly.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The registered IDs and where the hash puts them.
#[derive(Debug)]
pub(super) struct Lookup {
    seed: u64,
    slots: [u8; SLOTS],
    /// Length and [`word`] of each ID; for one of up to eight bytes they are all of it.
    keys: [(usize, u64); PROTOCOLS_MAX],
    ids: Box<[Box<[u8]>]>,
}

impl Lookup {
    /// Places the IDs, which are distinct, not empty, and no more than [`PROTOCOLS_MAX`].
    pub(super) fn new(ids: Box<[Box<[u8]>]>) -> Self {
        let mut keys = [(0, 0); PROTOCOLS_MAX];
        for (key, id) in keys.iter_mut().zip(&ids) {
            *key = (id.len(), word(id));
        }
        // Ends soon: every eighth seed or so separates 16 IDs in 64 slots, and fewer IDs sooner.
        let mut seed = SPREAD;
        loop {
            if let Some(slots) = place(&ids, seed) {
                return Self { seed, slots, keys, ids };
            }
            seed = seed.wrapping_add(SPREAD);
        }
    }

    pub(super) const fn ids(&self) -> &[Box<[u8]>] {
        &self.ids
    }

    /// The index of an ID: one hash, one comparison.
    pub(super) fn find(&self, id: &[u8]) -> Option<u8> {
        let word = word(id);
        let index = self.slots[slot(self.seed, id, word)];
        let key = self.keys.get(usize::from(index))?;
        (*key == (id.len(), word) && (id.len() <= 8 || *self.ids[usize::from(index)] == *id)).then_some(index)
    }
}

/// The slots under this seed; `None` when two IDs meet in one.
fn place(ids: &[Box<[u8]>], seed: u64) -> Option<[u8; SLOTS]> {
    let mut slots = [EMPTY; SLOTS];
    for (index, id) in (0..).zip(ids) {
        let slot = &mut slots[slot(seed, id, word(id))];
        if *slot != EMPTY {
            return None;
        }
        *slot = index;
    }
    Some(slots)
}

/// The slot of an ID: every byte and the length count, so that some seed separates any two.
fn slot(seed: u64, id: &[u8], word: u64) -> usize {
    let mut hash = (seed ^ word).wrapping_add(id.len() as u64).wrapping_mul(seed | 1);
    if id.len() > 8 {
        for rest in id[8..].chunks(8) {
            hash = (hash.rotate_left(29) ^ self::word(rest)).wrapping_mul(seed | 1);
        }
    }
    // The highest bits of a product depend on all bits of its factors.
    usize::try_from(hash >> (u64::BITS - SLOT_BITS)).unwrap_or(0)
}

/// The first eight bytes of an ID as a number; different for different IDs of the same length up to eight.
fn word(id: &[u8]) -> u64 {
    if let Some(bytes) = id.first_chunk() {
        return u64::from_le_bytes(*bytes);
    }
    // Two halves that overlap cover every length without a loop.
    if let (Some(first), Some(last)) = (id.first_chunk(), id.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    if let (Some(first), Some(last)) = (id.first_chunk(), id.last_chunk()) {
        return u64::from(u16::from_le_bytes(*first)) | u64::from(u16::from_le_bytes(*last)) << 32;
    }
    id.first().copied().map_or(0, u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_words_of_its_own() {
        for len in 1..=8 {
            for at in 0..len {
                let mut id = [b'a'; 8];
                let plain = word(&id[..len]);
                id[at] = b'b';
                assert_ne!(word(&id[..len]), plain, "{len} {at}");
            }
        }
    }

    #[test]
    fn ids_that_are_hard_to_tell_apart() {
        let long = |last: u8| [&[b'x'; 254][..], &[last]].concat();
        let mut ids: Vec<Vec<u8>> = (0..8).map(long).collect();
        ids.extend((1..=8).map(|len| vec![0; len]));
        let lookup = Lookup::new(ids.iter().map(|id| id.clone().into_boxed_slice()).collect());
        for (index, id) in (0..).zip(&ids) {
            assert_eq!(lookup.find(id), Some(index));
            assert_eq!(lookup.find(&id[1..]).is_some(), ids.contains(&id[1..].to_vec()));
        }
        assert_eq!(lookup.find(&long(8)), None);
        assert_eq!(lookup.find(&[]), None);
    }
}
