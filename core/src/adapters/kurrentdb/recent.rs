//! The ids of the last events of the streams that this process has to do with.
//!
//! The server has no index of ids, and looks for repetitions only where the expected revision says: what the port promises is kept by looking here.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use uuid::Uuid;

use crate::ports::StoreError;

/// How many ids are kept in all, in each of two generations.
const GENERATION: usize = 128 * 1024;

/// The last ids of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The stream's last revision, `None` if there is no stream.
    pub(super) last: Option<u64>,
    /// The ids of its last events, the newest at the back.
    ids: VecDeque<Uuid>,
    /// Whether there are none before them that could be read.
    pub(super) whole: bool,
    /// The first event of the last repetition: who repeats a batch asks for that one next, and it may be older than the ids.
    repeated: Option<(Uuid, u64)>,
}

/// What the ids say of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None of it is there.
    New,
    /// All of it is there, one after the other; the last one at this revision.
    Repetition(u64),
    /// This one is there, and it is no repetition.
    Duplicate(Uuid),
    /// The last one is there, at this revision; those before it are too old to be known.
    Partly(u64),
}

impl Known {
    /// A stream whose last revision is `last` and whose last ids are `ids`, oldest first.
    pub(super) fn new(last: Option<u64>, ids: impl IntoIterator<Item = Uuid>, whole: bool) -> Self {
        Self {
            last,
            ids: ids.into_iter().collect(),
            whole,
            repeated: None,
        }
    }

    /// Whether the last `window` events are known, or all that there are.
    pub(super) fn covers(&self, window: usize) -> bool {
        self.whole || self.ids.len() >= window
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The revision that follows.
    pub(super) fn next(&self) -> u64 {
        self.last.map_or(0, |last| last + 1)
    }

    fn revision(&self, place: usize) -> u64 {
        let behind = (self.ids.len() - place) as u64;
        self.next().saturating_sub(behind)
    }

    /// The revision of the event `id`.
    pub(super) fn find(&self, id: Uuid) -> Option<u64> {
        if let Some((first, revision)) = self.repeated
            && first == id
        {
            return Some(revision);
        }
        let place = self.ids.iter().rposition(|known| *known == id)?;
        Some(self.revision(place))
    }

    /// A batch that ends at revision `last` was repeated.
    pub(super) fn note(&mut self, batch: &[Uuid], last: u64) {
        let first = (last + 1).checked_sub(batch.len() as u64);
        self.repeated = batch.first().copied().zip(first);
    }

    /// Adds what came after. The ids before are dropped past `window`.
    pub(super) fn push(&mut self, ids: impl IntoIterator<Item = Uuid>, window: usize) {
        let before = self.ids.len();
        self.ids.extend(ids);
        let added = self.ids.len() - before;
        if added > 0 {
            self.last = Some(self.next() + added as u64 - 1);
        }
        // A batch is kept whole, so that its repetition is known.
        let keep = window.max(added);
        if self.ids.len() > keep {
            self.whole = false;
            self.ids.drain(..self.ids.len() - keep);
        }
    }

    /// What the ids say of a batch of `ids`.
    pub(super) fn judge(&self, ids: &[Uuid]) -> Verdict {
        let found = if let [only] = ids {
            self.ids.iter().rposition(|known| known == only)
        } else {
            let batch: HashSet<&Uuid> = ids.iter().collect();
            self.ids.iter().rposition(|known| batch.contains(known))
        };
        let Some(last) = found else {
            return Verdict::New;
        };
        let end = last + 1;
        if end >= ids.len() && self.ids.range(end - ids.len()..end).eq(ids) {
            return Verdict::Repetition(self.revision(last));
        }
        let reaches_back = end < ids.len() && !self.whole;
        if reaches_back && self.ids.range(..end).eq(&ids[ids.len() - end..]) {
            return Verdict::Partly(self.revision(last));
        }
        Verdict::Duplicate(self.ids[last])
    }
}

/// Refuses a batch with an id that is stored.
pub(super) fn duplicate(id: Uuid, stream: &str) -> StoreError {
    StoreError::DuplicateEvent {
        event_id: id.to_string(),
        stream: stream.to_owned(),
    }
}

/// What is known of the streams in use: those not used for long are forgotten.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: HashMap<Arc<str>, Known>,
    old: HashMap<Arc<str>, Known>,
    /// Ids in the young generation.
    ids: usize,
}

impl Recent {
    /// Takes out what is known of `stream`.
    pub(super) fn take(&mut self, stream: &str) -> Option<Known> {
        if let Some(known) = self.young.remove(stream) {
            self.ids -= known.len();
            return Some(known);
        }
        self.old.remove(stream)
    }

    /// Puts in what is known of `stream`, unless somebody knows more of it meanwhile.
    pub(super) fn put(&mut self, stream: Arc<str>, known: Known) {
        let known = match self.take(&stream) {
            Some(newer) if newer.last > known.last => newer,
            _ => known,
        };
        // A stream costs something even without ids.
        if self.ids + known.len() > GENERATION || self.young.len() >= GENERATION / 8 {
            self.old = std::mem::take(&mut self.young);
            self.ids = 0;
        }
        self.ids += known.len();
        self.young.insert(stream, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> Uuid {
        Uuid::from_u128(n.into())
    }

    fn known(ids: impl IntoIterator<Item = u32>) -> Known {
        let mut known = Known::new(None, [], true);
        known.push(ids.into_iter().map(id), 100);
        known
    }

    fn judge(known: &Known, ids: &[u32]) -> Verdict {
        known.judge(&ids.iter().copied().map(id).collect::<Vec<_>>())
    }

    #[test]
    fn a_batch_is_new_repeated_or_refused() {
        let known = known([1, 2, 3, 4]);

        assert_eq!(judge(&known, &[5]), Verdict::New);
        assert_eq!(judge(&known, &[5, 6]), Verdict::New);
        assert_eq!(judge(&known, &[2, 3]), Verdict::Repetition(2));
        assert_eq!(judge(&known, &[1]), Verdict::Repetition(0));
        assert_eq!(judge(&known, &[1, 2, 3, 4]), Verdict::Repetition(3));
        assert_eq!(judge(&known, &[3, 2]), Verdict::Duplicate(id(3)));
        assert_eq!(judge(&known, &[1, 3]), Verdict::Duplicate(id(3)));
        assert_eq!(judge(&known, &[4, 5]), Verdict::Duplicate(id(4)));
        assert_eq!(judge(&known, &[0, 1]), Verdict::Duplicate(id(1)));
    }

    #[test]
    fn revisions_are_counted_from_the_end() {
        let mut known = Known::new(Some(99), [id(1), id(2)], false);
        assert_eq!((known.find(id(1)), known.find(id(2))), (Some(98), Some(99)));

        known.push([id(3)], 2);

        assert_eq!(known.last, Some(100));
        assert_eq!((known.find(id(1)), known.find(id(3))), (None, Some(100)));
        assert!(known.covers(2) && !known.covers(3));
    }

    #[test]
    fn a_batch_that_began_before_the_window_is_not_judged() {
        let known = Known::new(Some(9), [id(3), id(4), id(5)], false);

        assert_eq!(judge(&known, &[2, 3]), Verdict::Partly(7));
        assert_eq!(judge(&known, &[1, 2, 3, 4]), Verdict::Partly(8));
        assert_eq!(judge(&known, &[1, 2, 4]), Verdict::Duplicate(id(4)));
        let whole = Known {
            whole: true,
            ..known
        };
        assert_eq!(judge(&whole, &[2, 3]), Verdict::Duplicate(id(3)));
    }

    #[test]
    fn a_batch_over_the_window_is_kept_whole() {
        let mut known = known([]);

        known.push((1..=9).map(id), 3);

        assert_eq!(
            judge(&known, &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
            Verdict::Repetition(8)
        );
    }

    #[test]
    fn who_looked_earlier_does_not_make_others_forget() {
        let mut recent = Recent::default();

        recent.put("s".into(), known([1, 2, 3]));
        recent.put("s".into(), known([1, 2]));

        assert_eq!(recent.take("s"), Some(known([1, 2, 3])));
        assert_eq!(recent.ids, 0);
    }

    #[test]
    fn what_is_not_used_for_long_is_forgotten() {
        let mut recent = Recent::default();
        let batch = |n: u32| Known::new(Some(0), (0..1000).map(|i| id(n * 1000 + i)), true);
        for n in 0..400 {
            recent.put(format!("s-{n}").into(), batch(n));
            let first = recent.take("s-0").unwrap();
            recent.put("s-0".into(), first);
        }

        assert!(recent.take("s-1").is_none());
        assert!(recent.take("s-399").is_some());
        let ids: usize = recent
            .young
            .values()
            .chain(recent.old.values())
            .map(Known::len)
            .sum();
        assert!(ids <= 2 * GENERATION);
    }
}
