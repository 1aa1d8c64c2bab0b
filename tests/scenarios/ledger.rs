//! What was promised against what was done.

use std::collections::{BTreeMap, BTreeSet};

use crate::work::Report;

/// The numbers of the messages of one scenario.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Handed to the bus.
    sent: BTreeSet<u64>,
    /// How often each was handled to its end.
    handled: BTreeMap<u64, u32>,
    /// The bus said that the broker has them, and they have not been handled (yet).
    missing: BTreeSet<u64>,
}

impl Ledger {
    pub(crate) fn sent(&mut self, number: u64) {
        self.sent.insert(number);
    }

    pub(crate) fn confirmed(&mut self, number: u64) {
        if !self.handled.contains_key(&number) {
            self.missing.insert(number);
        }
    }

    pub(crate) fn read<'a>(&mut self, reports: impl IntoIterator<Item = &'a Report>) {
        for report in reports {
            if let Report::Handled { number, .. } = report {
                *self.handled.entry(*number).or_default() += 1;
                self.missing.remove(number);
            }
        }
    }

    /// Confirmed and not handled (yet).
    pub(crate) fn missing(&self) -> &BTreeSet<u64> {
        &self.missing
    }

    /// How often the message that was handled most often was.
    pub(crate) fn most(&self) -> u32 {
        self.handled.values().copied().max().unwrap_or(0)
    }

    /// How many messages have been handled at least once.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.len() as u64
    }

    /// The promise of every scenario: published and confirmed minus handled is nothing, and whatever was handled once too
    /// often is a message that was sent.
    pub(crate) fn check(&self) {
        assert!(self.missing.is_empty(), "lost: {:?}", self.missing);
        let strangers: Vec<_> = self
            .handled
            .keys()
            .filter(|number| !self.sent.contains(number))
            .collect();
        assert!(
            strangers.is_empty(),
            "handled but never sent: {strangers:?}"
        );
    }
}
