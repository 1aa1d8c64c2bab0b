//! Taking messages out of the outbox: of all processes one at a time, and nothing is gone before it is done with.

use std::{collections::BTreeSet, pin::pin, sync::Arc};

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

/// The reader of the outbox. It owns the lease [`OUTBOX`] while there is something to do.
///
/// What it gives is in hand until [`OutboxReader::done`], which takes it out, or [`OutboxReader::give_back`]. What a process has in hand when it
/// ends is given again, to whoever holds the lease next.
#[derive(Debug)]
pub struct OutboxReader {
    store: Arc<dyn OutboxStore>,
    ownership: Ownership,
    in_hand: BTreeSet<u64>,
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
        let mut ownership = Ownership::new(leases, OUTBOX.to_owned(), owner.into(), clock);
        ownership.keep_in(background);
        Self {
            store,
            ownership,
            in_hand: BTreeSet::new(),
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
        let mut after = None;
        if room == 0 {
            return Ok(Vec::new());
        }
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
