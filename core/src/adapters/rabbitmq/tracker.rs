//! Which deliveries of a channel are settled: many are acknowledged with one frame. Pure.

use std::collections::VecDeque;

/// An acknowledgement to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// Of all up to `tag` that are not settled yet.
    pub(super) multiple: bool,
}

#[derive(Debug)]
enum Slot<T> {
    Open(Option<T>),
    /// To be acknowledged.
    Done,
    /// Acknowledged or given back.
    Gone,
}

/// The deliveries of one channel, by their tag: 1, 2, 3…
#[derive(Debug)]
pub(super) struct Tracker<T> {
    /// The tag of the first slot.
    first: u64,
    slots: VecDeque<Slot<T>>,
    open: usize,
    done: usize,
}

impl<T> Default for Tracker<T> {
    fn default() -> Self {
        Self {
            first: 1,
            slots: VecDeque::new(),
            open: 0,
            done: 0,
        }
    }
}

impl<T> Tracker<T> {
    /// The next delivery, with what is kept for it.
    pub(super) fn delivered(&mut self, tag: u64, value: T) {
        // Tags have no gaps; should there be one, what is in it was never delivered.
        while self.first + (self.slots.len() as u64) < tag {
            self.slots.push_back(Slot::Gone);
        }
        self.slots.push_back(Slot::Open(Some(value)));
        self.open += 1;
    }

    fn slot(&mut self, tag: u64) -> Option<&mut Slot<T>> {
        let at = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(at)
    }

    /// Takes what is kept for an open delivery, which stays open.
    pub(super) fn take(&mut self, tag: u64) -> Option<T> {
        match self.slot(tag)? {
            Slot::Open(value) => value.take(),
            Slot::Done | Slot::Gone => None,
        }
    }

    /// What is kept for an open delivery.
    pub(super) fn get(&mut self, tag: u64) -> Option<&T> {
        match self.slot(tag)? {
            Slot::Open(value) => value.as_ref(),
            Slot::Done | Slot::Gone => None,
        }
    }

    /// What is kept for all open deliveries.
    pub(super) fn kept(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Open(value) => value.as_ref(),
            Slot::Done | Slot::Gone => None,
        })
    }

    /// To be acknowledged. Nothing happens to one that is settled already.
    pub(super) fn done(&mut self, tag: u64) {
        if let Some(slot @ Slot::Open(_)) = self.slot(tag) {
            *slot = Slot::Done;
            self.open -= 1;
            self.done += 1;
        }
    }

    /// Given back by itself: true if it was open.
    pub(super) fn gone(&mut self, tag: u64) -> bool {
        let Some(slot @ Slot::Open(_)) = self.slot(tag) else {
            return false;
        };
        *slot = Slot::Gone;
        self.open -= 1;
        true
    }

    /// Deliveries that nobody has settled.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Deliveries that are done with and not acknowledged.
    pub(super) fn done_count(&self) -> usize {
        self.done
    }

    /// What is to be acknowledged now: everything up to the first open one with one frame. With `stragglers` also those behind it, each with its own.
    pub(super) fn acks(&mut self, stragglers: bool) -> Vec<Ack> {
        let mut acks = Vec::new();
        let (mut last, mut count) = (None, 0);
        while let Some(Slot::Done | Slot::Gone) = self.slots.front() {
            if let Some(Slot::Done) = self.slots.pop_front() {
                last = Some(self.first);
                count += 1;
            }
            self.first += 1;
        }
        if let Some(tag) = last {
            self.done -= count;
            acks.push(Ack {
                tag,
                multiple: count > 1,
            });
        }
        if stragglers && self.done > 0 {
            for (tag, slot) in (self.first..).zip(&mut self.slots) {
                if matches!(slot, Slot::Done) {
                    *slot = Slot::Gone;
                    acks.push(Ack {
                        tag,
                        multiple: false,
                    });
                }
            }
            self.done = 0;
        }
        acks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn delivered(count: u64) -> Tracker<u64> {
        let mut tracker = Tracker::default();
        for tag in 1..=count {
            tracker.delivered(tag, tag);
        }
        tracker
    }

    fn ack(tag: u64, multiple: bool) -> Ack {
        Ack { tag, multiple }
    }

    #[test]
    fn what_is_done_in_order_is_acknowledged_at_once() {
        let mut tracker = delivered(4);
        for tag in [3, 1, 2] {
            tracker.done(tag);
        }

        assert_eq!(tracker.acks(false), [ack(3, true)]);
        assert_eq!((tracker.open(), tracker.done_count()), (1, 0));
        tracker.done(4);
        assert_eq!(tracker.acks(false), [ack(4, false)]);
    }

    #[test]
    fn what_is_behind_an_open_one_waits_or_goes_alone() {
        let mut tracker = delivered(4);
        tracker.done(2);
        tracker.done(4);

        assert_eq!(tracker.acks(false), []);
        assert_eq!(tracker.acks(true), [ack(2, false), ack(4, false)]);
        tracker.done(1);
        assert_eq!(tracker.acks(false), [ack(1, false)]);
        tracker.done(3);
        assert_eq!(tracker.acks(false), [ack(3, false)]);
    }

    #[test]
    fn the_last_tag_named_is_one_that_is_not_settled() {
        let mut tracker = delivered(3);
        tracker.done(1);
        tracker.done(2);
        assert!(tracker.gone(3));

        // Tag 3 was given back: the broker no longer knows it.
        assert_eq!(tracker.acks(false), [ack(2, true)]);
        assert!(!tracker.gone(3));
    }

    #[test]
    fn what_is_kept_can_be_taken_once() {
        let mut tracker = delivered(1);
        assert_eq!(tracker.take(1), Some(1));
        assert_eq!(tracker.take(1), None);
        assert_eq!(tracker.take(2), None);
        assert_eq!(tracker.open(), 1);
    }

    proptest! {
        /// A broker of its own: each delivery is settled once, by a tag that it knows.
        #[test]
        fn every_delivery_is_settled_exactly_once(steps in prop::collection::vec((0_u8..5, 0_u64..50), 1..300)) {
            let mut tracker = Tracker::default();
            let mut next = 1;
            let mut unacked = BTreeSet::new();
            let mut finished = BTreeSet::new();
            let mut given_back = BTreeSet::new();
            for (what, pick) in steps {
                match what {
                    0 => {
                        tracker.delivered(next, ());
                        unacked.insert(next);
                        next += 1;
                    }
                    1 | 2 => {
                        let tag = pick % next + 1;
                        if !given_back.contains(&tag) && tag < next {
                            finished.insert(tag);
                        }
                        tracker.done(tag);
                    }
                    3 => {
                        let tag = pick % next + 1;
                        if tracker.gone(tag) {
                            given_back.insert(tag);
                            prop_assert!(unacked.remove(&tag));
                        }
                    }
                    _ => {
                        for ack in tracker.acks(pick % 2 == 0) {
                            prop_assert!(unacked.contains(&ack.tag), "unknown delivery tag");
                            let settled: Vec<u64> = if ack.multiple {
                                unacked.range(..=ack.tag).copied().collect()
                            } else {
                                vec![ack.tag]
                            };
                            for tag in settled {
                                prop_assert!(finished.contains(&tag), "acknowledged before it was done");
                                unacked.remove(&tag);
                            }
                        }
                    }
                }
            }
            tracker.acks(true);
            prop_assert_eq!(tracker.done_count(), 0);
            prop_assert_eq!(tracker.open(), (1..next).filter(|t| !finished.contains(t) && !given_back.contains(t)).count());
        }
    }
}
