//! Tables: where handles and the model's own objects live.
//! One rule: index 0 is never given out, and a freed index is the next to be given out again.
//! Knows nothing of what it holds.

use std::ops::{Index, IndexMut};

/// CanonicalABI.md, Table State.
///
/// Guests see these indices, so the order of reuse is part of the law.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table<T> {
    array: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { array: vec![None], free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// The entry at `i`, if there is one.
    pub fn get(&self, i: u32) -> Option<&T> {
        self.array.get(i as usize)?.as_ref()
    }

    /// The entry at `i`, if there is one.
    pub fn get_mut(&mut self, i: u32) -> Option<&mut T> {
        self.array.get_mut(i as usize)?.as_mut()
    }

    /// The index that the next entry gets.
    pub fn next_index(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.array.len() as u32)
    }

    /// Adds an entry at `next_index`.
    pub fn add(&mut self, entry: T) -> u32 {
        match self.free.pop() {
            Some(i) => {
                self.array[i as usize] = Some(entry);
                i
            }
            None => {
                self.array.push(Some(entry));
                self.array.len() as u32 - 1
            }
        }
    }

    /// Takes the entry at `i` out; its index is the next to be given out.
    pub fn remove(&mut self, i: u32) -> Option<T> {
        let entry = self.array.get_mut(i as usize)?.take()?;
        self.free.push(i);
        Some(entry)
    }

    /// Takes the entry at `i` out for good: its index is never given out again. So do holders of values that are no indices.
    pub(crate) fn retire(&mut self, i: u32) -> Option<T> {
        self.array.get_mut(i as usize)?.take()
    }

    /// Turns the order of reuse around. Only a profile that breaks `Rule::TableLifo` does.
    pub(crate) fn reverse_free(&mut self) {
        self.free.reverse();
    }

    /// All entries, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.array.iter().enumerate().filter_map(|(i, entry)| Some((i as u32, entry.as_ref()?)))
    }

    /// All entries, by index.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.array.iter_mut().enumerate().filter_map(|(i, entry)| Some((i as u32, entry.as_mut()?)))
    }

    /// All entries, by index.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (u32, T)> {
        self.array.into_iter().enumerate().filter_map(|(i, entry)| Some((i as u32, entry?)))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// Names an object of the model. Not visible to guests.
macro_rules! ids {
    ($($(#[$doc:meta])* $id:ident => $object:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $id(pub u32);

        impl Index<$id> for Table<$object> {
            type Output = $object;
            fn index(&self, id: $id) -> &$object {
                self.get(id.0).expect("the model refers to living objects only")
            }
        }

        impl IndexMut<$id> for Table<$object> {
            fn index_mut(&mut self, id: $id) -> &mut $object {
                self.get_mut(id.0).expect("the model refers to living objects only")
            }
        }
    )*};
}

ids! {
    /// A task.
    TaskId => crate::task::Task;
    /// A thread.
    ThreadId => crate::thread::Thread;
    /// A subtask or an end of a stream or future.
    WaitableId => crate::waitable::Waitable;
    /// A waitable set.
    SetId => crate::waitable::WaitableSet;
    /// What the two ends of a stream or future share.
    SharedId => crate::stream::Shared;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_index_freed_is_the_next_given_out() {
        let mut table = Table::default();
        let indices = [table.add('a'), table.add('b'), table.add('c')];
        assert_eq!(indices, [1, 2, 3]);
        assert_eq!(table.remove(1), Some('a'));
        assert_eq!(table.remove(3), Some('c'));
        assert_eq!((table.add('d'), table.add('e'), table.add('f')), (3, 1, 4));
    }

    #[test]
    fn index_zero_holds_nothing() {
        let mut table = Table::default();
        table.add('a');
        assert_eq!(table.get(0), None);
        assert_eq!(table.remove(0), None);
    }
}
