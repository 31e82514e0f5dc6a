//! From an ALPN protocol ID to its index, by a hash that was searched for until it separated the registered IDs.

use super::PROTOCOLS_MAX;

/// One cache line: four slots for each protocol there may be.
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();
/// No index: what an empty slot holds.
const EMPTY: u8 = 0xff;
/// The golden ratio's fraction: its multiples are spread evenly.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// How many seeds are tried: thousands of times as many as are needed.
const SEEDS_MAX: u64 = 1 << 16;

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
    /// Places the IDs, which are distinct, not empty, and no more than [`PROTOCOLS_MAX`]; `None` if no seed does.
    pub(super) fn new(ids: Box<[Box<[u8]>]>) -> Option<Self> {
        let mut keys = [(0, 0); PROTOCOLS_MAX];
        for (key, id) in keys.iter_mut().zip(&ids) {
            *key = (id.len(), word(id));
        }
        // Every eighth seed or so separates 16 IDs in 64 slots, and fewer IDs sooner.
        let (seed, slots) =
            (1..=SEEDS_MAX).map(|n| SPREAD.wrapping_mul(n)).find_map(|seed| Some((seed, place(&ids, seed)?)))?;
        Some(Self { seed, slots, keys, ids })
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

/// The slot of an ID. Every byte counts, and so does the length: times the seed, as whatever did not depend on the
/// seed could collide under all of them.
fn slot(seed: u64, id: &[u8], word: u64) -> usize {
    let mut hash = mix(seed.wrapping_mul(id.len() as u64), word);
    if id.len() > 8 {
        for rest in id[8..].chunks(8) {
            hash = mix(hash, self::word(rest));
        }
    }
    usize::try_from(hash.wrapping_mul(SPREAD) >> (u64::BITS - SLOT_BITS)).unwrap_or(0)
}

/// A product carries its factors' bits upwards only, so its upper half is brought down for the next one.
const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(SPREAD);
    product ^ product >> 32
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

    /// [`SEEDS_MAX`] is far away even for registries as full as they may be.
    #[test]
    fn few_seeds_are_needed() {
        for salt in 0..500_u32 {
            let id = |n: u32| {
                let text = format!("{:x}{:x}", n, (salt + n).wrapping_mul(0x9e37_79b9));
                text.as_bytes()[..1 + n as usize % text.len().min(9)].into()
            };
            let mut ids: Vec<Box<[u8]>> = (0..16).map(id).collect();
            ids.sort_unstable();
            ids.dedup();
            let lookup = Lookup::new(ids.into_boxed_slice()).unwrap();
            assert!((1..200).any(|n| SPREAD.wrapping_mul(n) == lookup.seed));
        }
    }

    #[test]
    fn ids_that_are_hard_to_tell_apart() {
        let long = |last: u8| [&[b'x'; 254][..], &[last]].concat();
        let mut ids: Vec<Vec<u8>> = (0..8).map(long).collect();
        ids.extend((1..=8).map(|len| vec![0; len]));
        let lookup = Lookup::new(ids.iter().map(|id| id.clone().into_boxed_slice()).collect()).unwrap();
        for (index, id) in (0..).zip(&ids) {
            assert_eq!(lookup.find(id), Some(index));
            assert_eq!(lookup.find(&id[1..]).is_some(), ids.iter().any(|other| *other == id[1..]));
        }
        assert_eq!(lookup.find(&long(8)), None);
        assert_eq!(lookup.find(&[]), None);
    }
}
