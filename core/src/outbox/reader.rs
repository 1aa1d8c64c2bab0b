//! Taking messages out of the outbox: of all processes one at a time, and nothing is gone before it is done with.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};

use super::WINDOW;
use crate::{
    background::Background,
    clock::Clock,
    ports::{LeaseStore, OUTBOX, OutboxRow, OutboxStore, StoreError},
    subscription::{Ownership, Term},
};

/// Messages that are in hand at most.
const IN_HAND: usize = 4 * WINDOW;

/// With many in hand, they are passed over no more often than this: meanwhile only what follows the last one is read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The reader of the outbox. It owns the lease [`OUTBOX`] while there is something to do.
///
/// What it gives is in hand until [`OutboxReader::done`], which takes it out, or [`OutboxReader::give_back`]. What a process has in hand when it
/// ends is given again, to whoever holds the lease next.
#[derive(Debug)]
pub struct OutboxReader {
    store: Arc<dyn OutboxStore>,
    ownership: Ownership,
    clock: Arc<dyn Clock>,
    in_hand: BTreeSet<u64>,
    /// When all was looked at, on the monotonic clock.
    looked_at: Duration,
}

impl OutboxReader {
    /// A reader of `store` that reads while `owner`, a name that no other reader has, holds the lease.
    pub fn new(
        store: Arc<dyn OutboxStore>,
        leases: Arc<dyn LeaseStore>,
        owner: impl Into<String>,
        clock: Arc<dyn Clock>,
        background: Background,
    ) -> Self {
        let mut ownership =
            Ownership::new(leases, OUTBOX.to_owned(), owner.into(), Arc::clone(&clock));
        ownership.keep_in(background);
        Self {
            store,
            ownership,
            clock,
            in_hand: BTreeSet::new(),
            looked_at: Duration::ZERO,
        }
    }

    /// Waits for messages that are not in hand and returns them in their order, at least one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the stores say; [`StoreError::Closed`] once the store is closed.
    pub async fn next(&mut self) -> Result<Vec<OutboxRow>, StoreError> {
        loop {
            if self.in_hand.is_empty() {
                self.idle().await?;
            }
            let owned = self.ownership.renew().await? != Term::Elsewhere;
            if !owned {
                self.ownership.pause().await;
                continue;
            }
            let rows = self.read().await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
            if self.in_hand.len() >= IN_HAND {
                self.ownership.until_renewal().await;
            } else if let Some(last) = self.in_hand.last() {
                // One behind the last may still be committed: then the end of this wait finds it.
                let news = self.store.wait_for_messages(Some(*last));
                if let Either::Left((news, _)) =
                    select(news, pin!(self.ownership.until_renewal())).await
                {
                    news?;
                }
            }
        }
    }

    /// As [`OutboxReader::next`], but `None` when there is nothing now that is not in hand, or another process reads.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn try_next(&mut self) -> Result<Option<Vec<OutboxRow>>, StoreError> {
        if self.store.pending(None, 1).await?.is_empty()
            || self.ownership.renew().await? == Term::Elsewhere
        {
            return Ok(None);
        }
        let rows = self.read().await?;
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// Waits until there is a message. The lease is let go of after a while without one: who waits writes nothing.
    async fn idle(&mut self) -> Result<(), StoreError> {
        if self.ownership.token().is_some() {
            let news = {
                let news = self.store.wait_for_messages(None);
                match select(news, pin!(self.ownership.until_renewal())).await {
                    Either::Left((news, _)) => Some(news),
                    Either::Right(_) => None,
                }
            };
            match news {
                Some(news) => return news,
                None => self.ownership.release().await?,
            }
        }
        self.store.wait_for_messages(None).await
    }

    async fn read(&mut self) -> Result<Vec<OutboxRow>, StoreError> {
        let room = IN_HAND - self.in_hand.len().min(IN_HAND);
        if room == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.monotonic();
        if self.in_hand.len() > WINDOW && now.saturating_sub(self.looked_at) < LOOK_AGAIN {
            let after = self.in_hand.last().copied();
            let rows = self.store.pending(after, room.min(WINDOW)).await?;
            self.in_hand.extend(rows.iter().map(|row| row.serial));
            return Ok(rows);
        }
        self.looked_at = now;
        let mut after = None;
        loop {
            let page = self
                .store
                .pending(after, self.in_hand.len() + WINDOW)
                .await?;
            let Some(last) = page.last() else {
                return Ok(page);
            };
            after = Some(last.serial);
            let mut rows = page;
            rows.retain(|row| !self.in_hand.contains(&row.serial));
            rows.truncate(room.min(WINDOW));
            if !rows.is_empty() {
                self.in_hand.extend(rows.iter().map(|row| row.serial));
                return Ok(rows);
            }
        }
    }

    /// These messages are done with: takes them out.
    ///
    /// # Errors
    /// What the store says; they are in hand still.
    pub async fn done(&mut self, serials: Vec<u64>) -> Result<(), StoreError> {
        if serials.is_empty() {
            return Ok(());
        }
        self.store.delete(serials.clone()).await?;
        self.give_back(&serials);
        Ok(())
    }

    /// These messages are not in hand any more: they come again.
    pub fn give_back(&mut self, serials: &[u64]) {
        for serial in serials {
            self.in_hand.remove(serial);
        }
    }

    /// Lets the next reader go on at once.
    ///
    /// # Errors
    /// What the lease store says.
    pub async fn release(&mut self) -> Result<(), StoreError> {
        self.in_hand.clear();
        self.ownership.release().await
    }
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        self.ownership.abandon();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        adapters::memory::MemoryStore,
        clock::{ManualClock, Timestamp},
        ports::{OutboxBacklog, Outgoing},
        testing::{block_on, samples::outgoing},
    };

    /// Counts the rows that are read.
    #[derive(Debug)]
    struct Counting(MemoryStore, AtomicUsize);

    #[async_trait]
    impl OutboxStore for Counting {
        async fn enqueue(&self, messages: Vec<Outgoing>) -> Result<(), StoreError> {
            self.0.enqueue(messages).await
        }

        async fn pending(
            &self,
            after: Option<u64>,
            limit: usize,
        ) -> Result<Vec<OutboxRow>, StoreError> {
            let rows = self.0.pending(after, limit).await?;
            self.1.fetch_add(rows.len(), Ordering::SeqCst);
            Ok(rows)
        }

        async fn delete(&self, serials: Vec<u64>) -> Result<u64, StoreError> {
            self.0.delete(serials).await
        }

        async fn backlog(&self) -> Result<OutboxBacklog, StoreError> {
            self.0.backlog().await
        }

        async fn wait_for_messages(&self, after: Option<u64>) -> Result<(), StoreError> {
            self.0.wait_for_messages(after).await
        }

        async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
            OutboxStore::purge(&self.0, before, limit).await
        }
    }

    fn shop(messages: u64) -> (ManualClock, Arc<Counting>, OutboxReader) {
        let clock = ManualClock::default();
        let leases = MemoryStore::new(Arc::new(clock.clone()));
        let store = MemoryStore::new(Arc::new(clock.clone()));
        let store = Arc::new(Counting(store, 0.into()));
        block_on(store.enqueue((0..messages).map(outgoing).collect())).unwrap();
        let reader = OutboxReader::new(
            store.clone(),
            Arc::new(leases),
            "ann",
            Arc::new(clock.clone()),
            Background::default(),
        );
        (clock, store, reader)
    }

    #[test]
    fn a_long_outbox_is_not_read_again_for_each_message_that_is_done() {
        let (_, store, mut reader) = shop(3_000);
        let mut seen = BTreeSet::new();
        let mut in_hand = Vec::new();

        while seen.len() < 3_000 {
            if in_hand.len() == IN_HAND {
                let first = in_hand.remove(0);
                block_on(reader.done(vec![first])).unwrap();
            }
            for row in block_on(reader.next()).unwrap() {
                assert!(seen.insert(row.serial), "twice");
                in_hand.push(row.serial);
            }
        }

        assert!(store.1.load(Ordering::SeqCst) < 3_000 * 2);
    }

    #[test]
    fn what_was_committed_behind_the_last_one_is_found_later() {
        let (clock, _, mut reader) = shop(600);
        let mut rows = block_on(reader.next()).unwrap();
        while rows.len() < 600 {
            rows.extend(block_on(reader.next()).unwrap());
        }
        // As if its transaction had committed only now.
        reader.give_back(&[rows[9].serial]);
        clock.advance(LOOK_AGAIN);

        let found = block_on(reader.try_next()).unwrap().unwrap();

        assert_eq!(found, [rows[9].clone()]);
    }
}
