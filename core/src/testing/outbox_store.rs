//! What every [`OutboxStore`] must do: `orkestra::outbox_store_suite!(factory)`.

use super::Fixture;
use crate::ports::OutboxStore;

suite! {
    /// Makes one test per case of the outbox store suite. Takes a function that returns a `Fixture<dyn OutboxStore>`.
    outbox_store_suite(dyn OutboxStore) in outbox_store, $
    cases: [
        every_field_of_a_message_reads_back,
        messages_come_in_the_order_they_were_put_in,
        a_message_that_is_in_the_outbox_is_kept_once,
        deleted_messages_are_gone_and_their_serials_too,
        the_backlog_counts_and_says_how_old_the_oldest_is,
        waiting_for_messages_ends_at_once_when_there_are_some,
        waiting_for_messages_ends_when_one_is_put_in,
        old_messages_are_purged_in_bounded_batches,
        a_purge_takes_the_oldest_first,
        nothing_put_in_by_many_at_once_is_lost,
        messages_survive_reopening,
    ]
}

mod cases {
    use std::{thread, time::Duration};

    use super::{Fixture, OutboxStore};
    use crate::{
        clock::Clock,
        message::MessageKind,
        ports::{OutboxBacklog, OutboxRow, Outgoing, TraceContext},
        testing::{
            Started, block_on,
            samples::{NOON, id, outgoing},
            skip,
        },
    };

    type Store = Fixture<dyn OutboxStore>;

    fn enqueue(f: &Store, numbers: impl IntoIterator<Item = u64>) {
        let messages = numbers.into_iter().map(outgoing).collect();
        block_on(f.store().enqueue(messages)).unwrap();
    }

    fn pending(f: &Store, after: Option<u64>, limit: usize) -> Vec<OutboxRow> {
        block_on(f.store().pending(after, limit)).unwrap()
    }

    /// The numbers of all messages, in order.
    fn numbers(f: &Store) -> Vec<u64> {
        let rows = pending(f, None, 1_000);
        assert!(rows.is_sorted_by(|a, b| a.serial < b.serial));
        let number = |row: OutboxRow| (0..10_000).find(|n| id(*n) == row.message.id);
        rows.into_iter().filter_map(number).collect()
    }

    pub(super) fn every_field_of_a_message_reads_back(f: &Store) {
        let full = Outgoing {
            kind: MessageKind::Command,
            max_retries: Some(4),
            body: "{\"note\":\"日本 \u{1f980}\"}".into(),
            correlation_id: "req-日本".into(),
            trace: TraceContext {
                traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
                tracestate: Some("vendor=1".into()),
                baggage: Some("user=ann".into()),
            },
            ..outgoing(1)
        };
        let odd = Outgoing {
            body: vec![0, 159, 146, 150, 255].into(),
            ..outgoing(2)
        };

        block_on(f.store().enqueue(vec![full.clone(), odd.clone()])).unwrap();

        let rows = pending(f, None, 10);
        assert!(rows.iter().all(|row| row.enqueued_at == NOON));
        let messages: Vec<_> = rows.into_iter().map(|row| row.message).collect();
        assert_eq!(messages, [full, odd]);
    }

    pub(super) fn messages_come_in_the_order_they_were_put_in(f: &Store) {
        enqueue(f, [5, 3]);
        enqueue(f, [4]);
        enqueue(f, []);

        assert_eq!(numbers(f), [5, 3, 4]);
        let first = pending(f, None, 1);
        assert_eq!(first.len(), 1);
        let rest = pending(f, Some(first[0].serial), 10);
        assert_eq!(rest.len(), 2);
        assert!(pending(f, Some(rest[1].serial), 10).is_empty());
    }

    pub(super) fn a_message_that_is_in_the_outbox_is_kept_once(f: &Store) {
        enqueue(f, [1, 2]);
        let again = Outgoing {
            body: "{\"other\":true}".into(),
            ..outgoing(1)
        };

        block_on(f.store().enqueue(vec![again, outgoing(3), outgoing(3)])).unwrap();

        assert_eq!(numbers(f), [1, 2, 3]);
        assert_eq!(pending(f, None, 1)[0].message, outgoing(1));
        let serial = pending(f, None, 1)[0].serial;
        block_on(f.store().delete(vec![serial])).unwrap();
        enqueue(f, [1]);
        assert_eq!(numbers(f), [2, 3, 1]);
    }

    pub(super) fn deleted_messages_are_gone_and_their_serials_too(f: &Store) {
        enqueue(f, 0..5);
        let serials: Vec<u64> = pending(f, None, 10).iter().map(|r| r.serial).collect();

        let delete = |serials: &[u64]| block_on(f.store().delete(serials.to_vec())).unwrap();

        assert_eq!(delete(&serials[2..]), 3);

        assert_eq!(numbers(f), [0, 1]);
        assert_eq!(delete(&serials[1..3]), 1);
        assert_eq!(delete(&[]), 0);
        enqueue(f, [7]);
        assert!(pending(f, Some(serials[0]), 1)[0].serial > serials[4]);
    }

    pub(super) fn the_backlog_counts_and_says_how_old_the_oldest_is(f: &Store) {
        let backlog = || block_on(f.store().backlog()).unwrap();
        assert_eq!(backlog(), OutboxBacklog::default());

        enqueue(f, [1]);
        f.clock().advance(Duration::from_secs(60));
        enqueue(f, [2, 3]);

        let minute = NOON.plus(Duration::from_secs(60));
        assert_eq!((backlog().messages, backlog().oldest), (3, Some(NOON)));
        let serial = pending(f, None, 1)[0].serial;
        block_on(f.store().delete(vec![serial])).unwrap();
        assert_eq!((backlog().messages, backlog().oldest), (2, Some(minute)));
    }

    pub(super) fn waiting_for_messages_ends_at_once_when_there_are_some(f: &Store) {
        enqueue(f, [1, 2]);
        let first = pending(f, None, 1)[0].serial;

        block_on(f.store().wait_for_messages(None)).unwrap();
        block_on(f.store().wait_for_messages(Some(first))).unwrap();
    }

    pub(super) fn waiting_for_messages_ends_when_one_is_put_in(f: &Store) {
        let mut last = None;
        // Waits may end early, so each is followed by a look; what may not happen is that none ends.
        for n in 0..20 {
            let wait = Started::new(f.store().wait_for_messages(last));
            drop(Started::new(f.store().wait_for_messages(last)));

            enqueue(f, [n]);

            wait.finish().unwrap();
            let found = pending(f, last, 10);
            assert_eq!(found.len(), 1);
            last = Some(found[0].serial);
        }
    }

    pub(super) fn old_messages_are_purged_in_bounded_batches(f: &Store) {
        enqueue(f, 0..5);
        f.clock().advance(Duration::from_secs(60));
        enqueue(f, 5..7);
        let purge = |before, limit| block_on(f.store().purge(before, limit)).unwrap();
        let minute = NOON.plus(Duration::from_secs(60));

        assert_eq!(purge(NOON, 10), 0);
        assert_eq!(purge(minute, 2), 2);
        assert_eq!(numbers(f), [2, 3, 4, 5, 6]);
        assert_eq!(purge(minute, 100), 3);
        assert_eq!(purge(minute, 100), 0);
        assert_eq!(numbers(f), [5, 6]);
    }

    pub(super) fn a_purge_takes_the_oldest_first(f: &Store) {
        for n in 0..3 {
            enqueue(f, [n]);
            f.clock().advance(Duration::from_secs(1));
        }

        let purged = block_on(f.store().purge(f.clock().now(), 2)).unwrap();

        assert_eq!(purged, 2);

        assert_eq!(numbers(f), [2]);
    }

    pub(super) fn nothing_put_in_by_many_at_once_is_lost(f: &Store) {
        thread::scope(|scope| {
            for thread in 0..8 {
                let store = f.shared();
                scope.spawn(move || {
                    for n in 0..10 {
                        let message = outgoing(thread * 10 + n);
                        block_on(store.enqueue(vec![message])).unwrap();
                    }
                });
            }
        });

        let mut found = numbers(f);
        for thread in 0..8 {
            let own = (thread * 10..thread * 10 + 10).collect::<Vec<u64>>();
            let order: Vec<u64> = found.iter().copied().filter(|n| own.contains(n)).collect();
            assert_eq!(order, own, "one caller's messages keep their order");
        }
        found.sort_unstable();
        assert_eq!(found, (0..80).collect::<Vec<u64>>());
    }

    pub(super) fn messages_survive_reopening(f: &mut Store) {
        enqueue(f, [1, 2]);
        let before = pending(f, None, 10);

        if !f.reopen() {
            return skip("messages_survive_reopening", "the adapter is not durable");
        }

        assert_eq!(pending(f, None, 10), before);
    }
}
