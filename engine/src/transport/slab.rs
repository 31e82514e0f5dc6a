//! Slots with generations: a stale identifier finds nothing.

use crate::chunks::Chunks;

/// Names one connection of one transport for as long as it lives.
///
/// A slot is used again after its connection closed, with the next generation, so an event or a timer that was
/// meant for the earlier one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

impl ConnId {
    /// The slot and the generation.
    #[must_use]
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// The index of its slot: dense, and free to index a table beside the transport's own.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// How many connections had this slot before, modulo 2^32.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values in slots; a removed value's [`ConnId`] never finds its successor.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Chunks<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Chunks::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// How many values it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `value` into a free slot.
    ///
    /// # Panics
    /// With more than 2^32 values, which no process can have as sockets.
    pub fn insert(&mut self, value: T) -> ConnId {
        if let Some(slot) = self.free.pop() {
            let s = &mut self.slots[slot as usize];
            s.value = Some(value);
            return ConnId::new(slot, s.generation);
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 connections");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        ConnId::new(slot, 0)
    }

    /// The value of `id`, unless it was removed.
    #[must_use]
    pub fn get(&self, id: ConnId) -> Option<&T> {
        self.slots.get(id.slot()).filter(|s| s.generation == id.generation)?.value.as_ref()
    }

    /// The value of `id`, unless it was removed.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        self.slots.get_mut(id.slot()).filter(|s| s.generation == id.generation)?.value.as_mut()
    }

    /// The identifier that is valid for the slot with index `slot` now.
    #[must_use]
    pub fn id_at(&self, slot: usize) -> Option<ConnId> {
        let s = self.slots.get(slot)?;
        s.value.as_ref()?;
        Some(ConnId::new(u32::try_from(slot).ok()?, s.generation))
    }

    /// Takes the value of `id` out.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        let s = self.slots.get_mut(id.slot()).filter(|s| s.generation == id.generation)?;
        let value = s.value.take()?;
        s.generation = s.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(value)
    }

    /// All identifiers that are valid now, in the order of their slots.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        (0..self.slots.len()).filter_map(|slot| self.id_at(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_identifier_finds_nothing_after_its_slot_is_used_again() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.slot(), first.slot());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.ids().collect::<Vec<_>>(), [second]);
    }
}
