//! Reading the next page of the log while the one in hand is being handled.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use futures_util::future::{FutureExt, MaybeDone, maybe_done};
use parking_lot::Mutex;

use crate::ports::{EventStore, Page, ReadAll, StoreError};

type Reading = MaybeDone<Pin<Box<dyn Future<Output = Result<Page, StoreError>> + Send>>>;

/// At most one page that was asked for before it is needed. What is in memory stays under two pages.
#[derive(Default)]
pub struct Ahead(
    // Never locked: it makes the future `Sync`.
    Option<(ReadAll, Mutex<Reading>)>,
);

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ahead")
            .field(&self.0.as_ref().map(|(read, _)| read))
            .finish()
    }
}

impl Ahead {
    /// Asks `store` for the page, which [`Ahead::take`] gives later. An earlier one is dropped.
    pub fn begin(&mut self, store: &Arc<dyn EventStore>, read: ReadAll) {
        let (store, asked) = (Arc::clone(store), read.clone());
        let mut reading: Reading = maybe_done(Box::pin(async move { store.read_all(asked).await }));
        // Polled once it is in the store's queue; whoever takes it brings the waker.
        let _ = (&mut reading).now_or_never();
        self.0 = Some((read, Mutex::new(reading)));
    }

    /// The page that was begun, if it is this one, else read now. One that failed is read again.
    ///
    /// # Errors
    /// What the store says.
    pub async fn take(
        &mut self,
        store: &Arc<dyn EventStore>,
        read: ReadAll,
    ) -> Result<Page, StoreError> {
        if let Some((asked, reading)) = &mut self.0
            && *asked == read
        {
            let mut reading = Pin::new(reading.get_mut());
            reading.as_mut().await;
            let page = reading.take_output();
            self.0 = None;
            if let Some(Ok(page)) = page {
                return Ok(page);
            }
        }
        store.read_all(read).await
    }
}
