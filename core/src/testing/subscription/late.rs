//! A lease store that answers late: what it was asked for happens, whether anybody waits for it still or not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};

use super::{BOARD, Shop, ids, next, there};
use crate::{
    background::Background,
    ports::{Lease, LeaseStore, StoreError},
    subscription::{LEASE, Subscription, SubscriptionOptions},
    testing::{Started, block_on, samples::orders},
};

#[derive(Debug)]
struct Late {
    leases: Arc<dyn LeaseStore>,
    background: Background,
    /// One for each answer that is given.
    answers: Arc<Semaphore>,
    asked: AtomicUsize,
    /// Answers that get lost on the way.
    unheard: AtomicU32,
}

impl Shop {
    fn late(&self) -> Arc<Late> {
        Arc::new(Late {
            leases: self.store().leases.clone(),
            background: Background::default(),
            answers: Arc::new(Semaphore::new(0)),
            asked: 0.into(),
            unheard: 0.into(),
        })
    }

    /// Ann, who reads the board, and is about to ask for the lease.
    fn ann(&self, late: &Arc<Late>) -> Subscription {
        let clock = Arc::new(self.clock().clone());
        let mut ann =
            self.named(BOARD, SubscriptionOptions::default())
                .owned(late.clone(), "ann", clock);
        block_on(ann.open()).unwrap();
        ann
    }
}

#[async_trait]
impl LeaseStore for Late {
    async fn acquire(
        &self,
        name: String,
        owner: String,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let (tell, told) = oneshot::channel();
        let (leases, answers) = (Arc::clone(&self.leases), Arc::clone(&self.answers));
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.background.detach(async move {
            answers.acquire().await.unwrap().forget();
            // Who asked may have gone.
            let _ = tell.send(leases.acquire(name, owner, ttl).await);
        });
        let answer = told.await.unwrap();
        let one_less = |n: u32| n.checked_sub(1);
        let lost = self
            .unheard
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if lost.is_ok() {
            return Err(StoreError::Unavailable {
                reason: "connection reset".into(),
            });
        }
        answer
    }

    async fn release(&self, name: String, owner: String) -> Result<bool, StoreError> {
        self.leases.release(name, owner).await
    }
}

pub(super) fn a_lease_that_nobody_waited_for_is_given_back(f: &Shop) {
    f.give("order-1", orders([1]));
    let late = f.late();
    let mut ann = f.ann(&late);
    drop(Started::new(ann.next()));

    let mut giving = Started::new(ann.release());
    assert!(!giving.is_done(), "what is granted later is not given back");
    late.answers.add_permits(1);
    giving.finish().unwrap();

    assert_eq!(there(&mut f.kept_by("bob")), ids([1]));
}

pub(super) fn a_lease_that_nobody_waited_for_is_given_back_when_its_reader_is_dropped(f: &Shop) {
    f.give("order-1", orders([1]));
    let (late, background) = (f.late(), Background::default());
    let mut ann = f.ann(&late).kept_by(background.clone());
    drop(Started::new(ann.next()));
    // A release that is dropped gives nothing back either.
    drop(Started::new(ann.release()));

    drop(ann);
    late.answers.add_permits(1);
    block_on(background.settled());

    assert_eq!(there(&mut f.kept_by("bob")), ids([1]));
}

pub(super) fn a_question_that_was_dropped_is_not_asked_twice(f: &Shop) {
    f.give("order-1", orders([1]));
    let late = f.late();
    let mut ann = f.ann(&late);
    drop(Started::new(ann.next()));

    late.answers.add_permits(1);

    assert_eq!(there(&mut ann), ids([1]));
    assert_eq!(late.asked.load(Ordering::SeqCst), 1);
    // The answer to an old one says nothing of now.
    f.clock().advance(LEASE / 3);
    drop(Started::new(ann.next()));
    f.clock().advance(LEASE / 3);
    late.answers.add_permits(2);
    assert!(there(&mut ann).is_empty());
    assert_eq!(late.asked.load(Ordering::SeqCst), 3);
}

pub(super) fn a_lease_that_is_renewed_behind_is_given_back_after_that(f: &Shop) {
    f.give("order-1", orders([1]));
    let (late, clock) = (f.late(), f.clock());
    late.answers.add_permits(1);
    let mut ann = f.ann(&late).kept_by(Background::default());
    next(&mut ann);
    while late.asked.load(Ordering::SeqCst) < 2 {
        if clock.next_wake().is_some() {
            clock.advance(LEASE / 3);
        }
        thread::yield_now();
    }

    let mut giving = Started::new(ann.release());
    assert!(!giving.is_done(), "the renewal comes after it");
    late.answers.add_permits(1);
    giving.finish().unwrap();

    assert_eq!(there(&mut f.kept_by("bob")), ids([1]));
}

pub(super) fn a_lease_whose_grant_was_not_heard_of_is_given_back(f: &Shop) {
    f.give("order-1", orders([1]));
    let late = f.late();
    late.answers.add_permits(1);
    late.unheard.store(1, Ordering::SeqCst);
    let mut ann = f.ann(&late);
    block_on(ann.next()).unwrap_err();

    block_on(ann.release()).unwrap();

    assert_eq!(there(&mut f.kept_by("bob")), ids([1]));
}
