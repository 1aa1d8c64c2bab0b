//! What the writer remembers between transactions, as long as nobody else wrote.

use std::{collections::HashMap, mem, sync::Arc};

use crate::ports::StreamName;

/// Streams that each of the two generations of the cache holds.
const GENERATION: usize = 50_000;

/// Types that are remembered.
const MAX_TYPES: usize = 10_000;

/// A stream's number and last revision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) id: i64,
    pub(super) last: Option<u64>,
}

/// Heads of streams, numbers of types and the next position. Streams not used for long are forgotten.
#[derive(Default)]
pub(super) struct Heads {
    data_version: i64,
    next_position: Option<u64>,
    /// Whether the next position is one more than that of the last row: then SQLite finds it by itself, faster.
    pub(super) dense: bool,
    young: HashMap<Arc<str>, Head>,
    old: HashMap<Arc<str>, Head>,
    types: HashMap<Arc<str>, i64>,
}

impl Heads {
    /// Forgets everything unless `data_version` (SQLite's word for "somebody else committed") is the same as the last time.
    pub(super) fn keep_for(&mut self, data_version: i64) {
        if data_version != self.data_version {
            self.clear();
            self.data_version = data_version;
        }
    }

    pub(super) fn clear(&mut self) {
        self.next_position = None;
        self.dense = false;
        self.young.clear();
        self.old.clear();
        self.types.clear();
    }

    pub(super) fn stream(&mut self, name: &str) -> Option<Head> {
        if let Some(head) = self.young.get(name) {
            return Some(*head);
        }
        let (name, head) = self.old.remove_entry(name)?;
        self.remember(name, head);
        Some(head)
    }

    pub(super) fn remember(&mut self, name: Arc<str>, head: Head) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(name, head);
    }

    /// `name` has `last` as its last revision now.
    pub(super) fn advance(&mut self, name: &StreamName, id: i64, last: u64) {
        match self.young.get_mut(&**name) {
            Some(head) => head.last = Some(last),
            None => self.remember(
                name.shared(),
                Head {
                    id,
                    last: Some(last),
                },
            ),
        }
    }

    pub(super) fn type_id(&self, name: &str) -> Option<i64> {
        self.types.get(name).copied()
    }

    pub(super) fn remember_type(&mut self, name: Arc<str>, id: i64) {
        if self.types.len() >= MAX_TYPES {
            self.types.clear();
        }
        self.types.insert(name, id);
    }

    pub(super) fn next_position(&self) -> Option<u64> {
        self.next_position
    }

    pub(super) fn set_next_position(&mut self, position: u64) {
        self.next_position = Some(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_wrote_makes_us_forget() {
        let mut heads = Heads::default();
        heads.keep_for(1);
        heads.remember(
            "cart-7".into(),
            Head {
                id: 1,
                last: Some(3),
            },
        );

        heads.keep_for(1);
        assert_eq!(heads.stream("cart-7").and_then(|h| h.last), Some(3));
        heads.keep_for(2);
        assert!(heads.stream("cart-7").is_none());
    }

    #[test]
    fn streams_in_use_stay_and_memory_is_bounded() {
        let mut heads = Heads::default();
        let head = Head { id: 1, last: None };
        heads.remember("kept".into(), head);

        for n in 0..3 * GENERATION {
            heads.remember(format!("cart-{n}").into(), head);
            if n % 1000 == 0 {
                assert!(heads.stream("kept").is_some());
            }
        }

        assert!(heads.young.len() + heads.old.len() <= 2 * GENERATION);
    }
}
