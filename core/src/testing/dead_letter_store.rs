//! What every [`DeadLetterStore`] must do: `orkestra::dead_letter_store_suite!(factory)`.

use super::Fixture;
use crate::ports::DeadLetterStore;

suite! {
    /// Makes one test per case of the dead letter store suite. Takes a function that returns a `Fixture<dyn DeadLetterStore>`.
    dead_letter_store_suite(dyn DeadLetterStore) in dead_letter_store, $
    cases: [
        l01_every_field_reads_back,
        l01_a_body_that_is_no_json_keeps_its_bytes,
        l01_a_text_with_the_character_zero_is_no_obstacle,
        l02_entries_are_listed_by_handler_topic_time_text_and_status,
        l02_pages_have_a_total,
        l03_requeueing_keeps_the_id_and_marks_the_entry,
        l03_an_entry_that_could_not_be_handed_over_is_dead_again,
        l05_a_discarded_entry_is_gone,
        l06_failing_again_is_one_entry_with_history,
        l06_handlers_have_their_own_entries,
        l07_requeueing_with_another_body_keeps_it,
        l08_entries_survive_reopening,
        an_unknown_entry_is_a_typed_error,
        old_entries_are_purged_in_bounded_batches,
    ]
}

mod cases {
    use std::time::Duration;

    use super::{DeadLetterStore, Fixture};
    use crate::{
        clock::Timestamp,
        message::MessageKind,
        ports::{
            DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetterReason, DeadLetterStatus,
            ErrorRecord, StoreError,
        },
        testing::{
            block_on,
            samples::{NOON, dead_letter, id},
            skip,
        },
        topic::Pattern,
    };

    type Store = Fixture<dyn DeadLetterStore>;

    const PLACE: &str = "shop.place_order";
    const MAIL: &str = "shop.send_confirmation";

    fn record(f: &Store, letter: DeadLetter) -> DeadLetter {
        block_on(f.store().record(letter)).unwrap()
    }

    fn get(f: &Store, n: u64) -> Result<DeadLetter, StoreError> {
        block_on(f.store().get(id(1_000_000 + n)))
    }

    fn list(f: &Store, change: impl FnOnce(&mut DeadLetterFilter)) -> DeadLetterPage {
        let mut filter = DeadLetterFilter::default();
        change(&mut filter);
        block_on(f.store().list(filter)).unwrap()
    }

    fn minute(n: u64) -> Timestamp {
        NOON.plus(Duration::from_secs(60 * n))
    }

    /// The numbers of the letters.
    fn numbers(page: &DeadLetterPage) -> Vec<u64> {
        let number = |letter: &DeadLetter| (0..1000).find(|n| id(*n) == letter.message_id);
        page.items.iter().filter_map(number).collect()
    }

    pub(super) fn l01_every_field_reads_back(f: &Store) {
        let letters = [
            dead_letter(1, PLACE, NOON),
            DeadLetter {
                kind: MessageKind::Event,
                reason: DeadLetterReason::NotRetryable,
                requeueable: false,
                trace_id: None,
                correlation_id: "req-日本".into(),
                errors: vec![],
                ..dead_letter(2, MAIL, minute(1))
            },
        ];

        for letter in letters.clone() {
            assert_eq!(record(f, letter.clone()), letter);
        }

        assert_eq!(get(f, 1).unwrap(), letters[0]);
        assert_eq!(get(f, 2).unwrap(), letters[1]);
    }

    pub(super) fn l01_a_body_that_is_no_json_keeps_its_bytes(f: &Store) {
        let letter = DeadLetter {
            body: vec![0, 159, 146, 150, 255].into(),
            requeueable: false,
            reason: DeadLetterReason::Undecodable,
            ..dead_letter(1, PLACE, NOON)
        };

        record(f, letter.clone());

        assert_eq!(get(f, 1).unwrap(), letter);
    }

    pub(super) fn l01_a_text_with_the_character_zero_is_no_obstacle(f: &Store) {
        let error = ErrorRecord {
            error_type: "shop.Bad\0Type".into(),
            message: "a\0b".into(),
            trace: "\0".into(),
        };
        let letter = DeadLetter {
            type_name: "Shop\0".into(),
            topic: "orders.\0".into(),
            correlation_id: "a\0b".into(),
            trace_id: Some("\0".into()),
            errors: vec![error.clone()],
            body: vec![0, 1, 2].into(),
            ..dead_letter(1, PLACE, NOON)
        };

        record(f, letter.clone());

        let found = get(f, 1).unwrap();
        assert_eq!((found.body, found.errors), (letter.body, vec![error]));
        assert!(found.correlation_id.starts_with('a'));
        let status = |filter: &mut DeadLetterFilter| filter.status = Some(DeadLetterStatus::Dead);
        assert_eq!(numbers(&list(f, status)), [1]);
    }

    pub(super) fn l02_entries_are_listed_by_handler_topic_time_text_and_status(f: &Store) {
        for n in 0..10 {
            let handler = if n % 2 == 0 { PLACE } else { MAIL };
            record(f, dead_letter(n, handler, minute(n)));
        }
        let odd = DeadLetter {
            topic: "billing.events.invoice_sent".into(),
            type_name: "Shop.Billing.Events.InvoiceSent".into(),
            body: "not JSON, but Searchable".into(),
            ..dead_letter(10, MAIL, minute(10))
        };
        record(f, odd);
        block_on(f.store().requeue(id(1_000_003), None)).unwrap();
        let found = |change: &dyn Fn(&mut DeadLetterFilter)| numbers(&list(f, change));
        let topic = |pattern| Some(Pattern::new(pattern).unwrap());

        assert_eq!(found(&|_| {}), [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(found(&|q| q.handler = Some(PLACE.into())), [8, 6, 4, 2, 0]);
        assert_eq!(found(&|q| q.topic = topic("billing.#")), [10]);
        assert_eq!(found(&|q| q.topic = topic("*.commands.*")).len(), 10);
        assert_eq!(found(&|q| q.since = Some(minute(9))), [10, 9]);
        assert_eq!(found(&|q| q.until = Some(minute(2))), [1, 0]);
        assert_eq!(found(&|q| q.text = Some("SKU_7".into())), [7]);
        assert_eq!(found(&|q| q.text = Some("searchable".into())), [10]);
        assert_eq!(found(&|q| q.text = Some("invoiceSent".into())), [10]);
        assert!(found(&|q| q.text = Some("sku%".into())).is_empty());
        assert_eq!(found(&|q| q.status = Some(DeadLetterStatus::Requeued)), [3]);
        assert_eq!(
            found(&|q| {
                q.handler = Some(MAIL.into());
                q.status = Some(DeadLetterStatus::Dead);
                q.until = Some(minute(6));
                q.text = Some("warehouse".into());
            }),
            [5, 1]
        );
    }

    pub(super) fn l02_pages_have_a_total(f: &Store) {
        for n in 0..130 {
            record(f, dead_letter(n, PLACE, minute(n)));
        }
        let page = |limit, offset| {
            let page = list(f, |q| (q.limit, q.offset) = (limit, offset));
            assert_eq!(page.total, 130);
            numbers(&page)
        };

        assert_eq!(page(0, 0).len(), 100);
        assert_eq!(page(3, 0), [129, 128, 127]);
        assert_eq!(page(3, 3), [126, 125, 124]);
        assert_eq!(page(100, 127), [2, 1, 0]);
        assert!(page(10, 500).is_empty());
    }

    pub(super) fn l03_requeueing_keeps_the_id_and_marks_the_entry(f: &Store) {
        let letter = record(f, dead_letter(1, PLACE, NOON));

        let requeued = block_on(f.store().requeue(letter.id, None)).unwrap();

        let expected = DeadLetter {
            status: DeadLetterStatus::Requeued,
            ..letter
        };
        assert_eq!(requeued, expected);
        assert_eq!(get(f, 1).unwrap(), expected);
    }

    pub(super) fn l03_an_entry_that_could_not_be_handed_over_is_dead_again(f: &Store) {
        let letter = record(f, dead_letter(1, PLACE, NOON));
        block_on(f.store().requeue(letter.id, Some("{}".into()))).unwrap();

        let back = block_on(f.store().take_back(letter.id, letter.body.clone())).unwrap();

        assert_eq!(back, letter);
        assert_eq!(get(f, 1).unwrap(), letter);
        let error = block_on(f.store().take_back(id(9), letter.body)).unwrap_err();
        assert!(matches!(error, StoreError::NoDeadLetter { .. }));
    }

    pub(super) fn l05_a_discarded_entry_is_gone(f: &Store) {
        let letter = record(f, dead_letter(1, PLACE, NOON));
        record(f, dead_letter(2, PLACE, NOON));

        assert!(block_on(f.store().discard(letter.id)).unwrap());

        assert!(!block_on(f.store().discard(letter.id)).unwrap());
        assert!(get(f, 1).is_err());
        assert_eq!(numbers(&list(f, |_| {})), [2]);
        // The same message may be given up again: that is a new entry.
        assert!(record(f, letter).history.is_empty());
    }

    pub(super) fn l06_failing_again_is_one_entry_with_history(f: &Store) {
        let first = record(f, dead_letter(1, PLACE, NOON));
        block_on(f.store().requeue(first.id, None)).unwrap();

        let second = DeadLetter {
            id: id(77),
            attempts: 2,
            errors: vec![],
            reason: DeadLetterReason::NotRetryable,
            ..dead_letter(1, PLACE, minute(5))
        };
        let entry = record(f, second.clone());

        assert_eq!(entry.id, first.id);
        assert_eq!(entry.attempts, 5);
        assert_eq!(entry.first_failed_at, first.first_failed_at);
        assert_eq!(entry.last_failed_at, minute(5));
        assert_eq!(entry.status, DeadLetterStatus::Dead);
        assert_eq!(entry.reason, DeadLetterReason::NotRetryable);
        assert!(entry.errors.is_empty());
        let [earlier] = &entry.history[..] else {
            panic!("expected one earlier round, found {:?}", entry.history);
        };
        assert_eq!((earlier.attempts, earlier.reason), (3, first.reason));
        assert_eq!(earlier.errors, first.errors);
        assert_eq!(earlier.last_failed_at, NOON.to_string());
        assert_eq!(get(f, 1).unwrap(), entry);
        assert_eq!(list(f, |_| {}).total, 1);

        let third = record(f, second);

        assert_eq!((third.attempts, third.history.len()), (7, 2));
        assert_eq!(third.history[1].attempts, 2);
    }

    pub(super) fn l06_handlers_have_their_own_entries(f: &Store) {
        record(f, dead_letter(1, PLACE, NOON));
        let other = DeadLetter {
            id: id(77),
            ..dead_letter(1, MAIL, NOON)
        };

        let entry = record(f, other.clone());

        assert_eq!(entry, other);
        assert_eq!(list(f, |_| {}).total, 2);
    }

    pub(super) fn l07_requeueing_with_another_body_keeps_it(f: &Store) {
        let letter = record(f, dead_letter(1, PLACE, NOON));
        let body = bytes::Bytes::from_static(br#"{"edited":true}"#);

        let requeued = block_on(f.store().requeue(letter.id, Some(body.clone()))).unwrap();

        assert_eq!((&requeued.body, requeued.message_id), (&body, id(1)));
        assert_eq!(get(f, 1).unwrap().body, body);
    }

    pub(super) fn l08_entries_survive_reopening(f: &mut Store) {
        let letter = record(f, dead_letter(1, PLACE, NOON));

        if !f.reopen() {
            return skip(
                "l08_entries_survive_reopening",
                "the adapter is not durable",
            );
        }

        assert_eq!(get(f, 1).unwrap(), letter);
    }

    pub(super) fn an_unknown_entry_is_a_typed_error(f: &Store) {
        let unknown = id(5);

        for result in [
            block_on(f.store().get(unknown)),
            block_on(f.store().requeue(unknown, None)),
        ] {
            let Err(StoreError::NoDeadLetter { id }) = result else {
                panic!("expected no dead letter, found {result:?}");
            };
            assert_eq!(id, unknown.to_string());
        }
        assert!(!block_on(f.store().discard(unknown)).unwrap());
    }

    pub(super) fn old_entries_are_purged_in_bounded_batches(f: &Store) {
        for n in 0..8 {
            let handler = if n % 2 == 0 { PLACE } else { MAIL };
            record(f, dead_letter(n, handler, minute(n)));
        }
        // What failed again is as old as its last failure.
        record(f, dead_letter(0, PLACE, minute(9)));
        block_on(f.store().requeue(id(1_000_002), None)).unwrap();
        let purge = |before, handler: Option<&str>, limit| {
            block_on(f.store().purge(before, handler.map(Into::into), limit)).unwrap()
        };

        assert_eq!(purge(minute(1), None, 10), 0);
        assert_eq!(purge(minute(5), Some(MAIL), 1), 1);
        assert_eq!(numbers(&list(f, |_| {})), [0, 7, 6, 5, 4, 3, 2]);
        assert_eq!(purge(minute(5), Some(MAIL), 10), 1);
        assert_eq!(purge(minute(6), None, 2), 2);
        assert_eq!(numbers(&list(f, |_| {})), [0, 7, 6, 5]);
        assert_eq!(purge(minute(6), None, 10), 1);
        assert_eq!(numbers(&list(f, |_| {})), [0, 7, 6]);
    }
}
