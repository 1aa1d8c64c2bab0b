//! What every [`LeaseStore`] must do: `orkestra::lease_store_suite!(factory)`.

use super::Fixture;
use crate::ports::LeaseStore;

suite! {
    /// Makes one test per case of the lease store suite. Takes a function that returns a `Fixture<dyn LeaseStore>`.
    lease_store_suite(dyn LeaseStore) in lease_store, $
    cases: [
        h01_the_first_gets_it,
        h02_a_second_is_refused_while_it_is_held,
        h03_it_is_granted_after_release,
        h04_the_holder_is_granted_it_again,
        h05_releasing_what_was_never_held_is_harmless,
        h06_expiry_makes_it_free,
        h07_each_grant_has_a_larger_token,
        h08_a_commit_with_an_old_token_is_refused,
        one_of_sixteen_racing_owners_gets_it,
        names_of_leases_are_independent,
        tokens_go_on_increasing_after_reopening,
        a_clock_that_was_put_back_prolongs_no_lease,
    ]
}

mod cases {
    use std::{thread, time::Duration};

    use super::{Fixture, LeaseStore};
    use crate::{
        clock::Clock,
        ports::{Expected, FencingToken, Lease, Position, SaveCheckpoint, StoreError},
        testing::{block_on, skip},
    };

    type Store = Fixture<dyn LeaseStore>;

    const BOARD: &str = "shop.board";
    const TTL: Duration = Duration::from_secs(10);

    fn acquire(f: &Store, owner: &str) -> Option<Lease> {
        block_on(f.store().acquire(BOARD.into(), owner.into(), TTL)).unwrap()
    }

    fn release(f: &Store, owner: &str) -> bool {
        block_on(f.store().release(BOARD.into(), owner.into())).unwrap()
    }

    pub(super) fn h01_the_first_gets_it(f: &Store) {
        let lease = acquire(f, "ann").unwrap();

        assert_eq!((&*lease.name, &*lease.owner), (BOARD, "ann"));
        assert_eq!(lease.expires_at, f.clock().now().plus(TTL));
        assert!(lease.token.0 >= 1);
    }

    pub(super) fn h02_a_second_is_refused_while_it_is_held(f: &Store) {
        acquire(f, "ann").unwrap();

        assert_eq!(acquire(f, "bob"), None);
        f.clock().advance(TTL.mul_f64(0.9));
        assert_eq!(acquire(f, "bob"), None);
    }

    pub(super) fn h03_it_is_granted_after_release(f: &Store) {
        acquire(f, "ann").unwrap();

        assert!(release(f, "ann"));

        assert_eq!(acquire(f, "bob").unwrap().owner, "bob");
        assert_eq!(acquire(f, "ann"), None);
    }

    pub(super) fn h04_the_holder_is_granted_it_again(f: &Store) {
        let first = acquire(f, "ann").unwrap();
        f.clock().advance(TTL / 2);

        let again = acquire(f, "ann").unwrap();

        assert_eq!(again.token, first.token);
        assert_eq!(again.expires_at, f.clock().now().plus(TTL));
        f.clock().advance(TTL * 3 / 4);
        assert_eq!(acquire(f, "bob"), None, "the second grant counts");
    }

    pub(super) fn h05_releasing_what_was_never_held_is_harmless(f: &Store) {
        assert!(!release(f, "ann"));
        acquire(f, "ann").unwrap();

        assert!(!release(f, "bob"));

        assert_eq!(acquire(f, "bob"), None, "it is still held");
        assert!(release(f, "ann"));
        assert!(!release(f, "ann"));
    }

    pub(super) fn h06_expiry_makes_it_free(f: &Store) {
        acquire(f, "ann").unwrap();

        f.clock().advance(TTL);

        assert_eq!(acquire(f, "bob").unwrap().owner, "bob");
        assert!(!release(f, "ann"), "what expired is not held any more");
        assert_eq!(acquire(f, "ann"), None);
    }

    pub(super) fn h07_each_grant_has_a_larger_token(f: &Store) {
        let mut tokens = vec![acquire(f, "ann").unwrap().token];
        release(f, "ann");
        tokens.push(acquire(f, "ann").unwrap().token);
        f.clock().advance(TTL);
        tokens.push(acquire(f, "ann").unwrap().token);
        f.clock().advance(TTL);
        tokens.push(acquire(f, "bob").unwrap().token);
        release(f, "bob");
        tokens.push(acquire(f, "ann").unwrap().token);

        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    }

    pub(super) fn h08_a_commit_with_an_old_token_is_refused(f: &Store) {
        let Some(checkpoints) = f.checkpoints() else {
            return skip(
                "h08_a_commit_with_an_old_token_is_refused",
                "the adapter stores no checkpoints",
            );
        };
        let save = |position, token, expected| {
            let options = SaveCheckpoint::expected(expected).token(token);
            block_on(checkpoints.save(BOARD.into(), Some(Position(position)), options))
        };
        let ann = acquire(f, "ann").unwrap().token;
        save(1, ann, Expected::Any).unwrap();
        f.clock().advance(TTL);
        // Late, but nobody else was granted it since.
        save(2, ann, Expected::Any).unwrap();
        let bob = acquire(f, "bob").unwrap().token;

        for expected in [
            Expected::Any,
            Expected::At(Some(Position(2))),
            Expected::Reset,
        ] {
            let error = save(3, ann, expected).unwrap_err();
            let StoreError::StaleLease { token, current, .. } = error else {
                panic!("expected a stale lease, found {error:?}");
            };
            assert_eq!((FencingToken(token), FencingToken(current)), (ann, bob));
        }

        save(3, bob, Expected::Any).unwrap();
        let loaded = block_on(checkpoints.load(BOARD.into())).unwrap().unwrap();
        assert_eq!(loaded.position, Some(Position(3)));
    }

    pub(super) fn one_of_sixteen_racing_owners_gets_it(f: &Store) {
        let won: usize = thread::scope(|scope| {
            let owners: Vec<_> = (0..16)
                .map(|n| {
                    let store = f.shared();
                    scope.spawn(move || {
                        let acquire = store.acquire(BOARD.into(), format!("owner-{n}"), TTL);
                        usize::from(block_on(acquire).unwrap().is_some())
                    })
                })
                .collect();
            owners.into_iter().map(|o| o.join().unwrap()).sum()
        });

        assert_eq!(won, 1);
    }

    pub(super) fn a_clock_that_was_put_back_prolongs_no_lease(f: &Store) {
        acquire(f, "ann").unwrap();
        f.clock().put_back(Duration::from_secs(3600));

        assert_eq!(acquire(f, "bob"), None, "she may be alive");
        f.clock().advance(TTL);

        assert_eq!(acquire(f, "bob").unwrap().owner, "bob");
    }

    pub(super) fn names_of_leases_are_independent(f: &Store) {
        acquire(f, "ann").unwrap();

        let other = block_on(f.store().acquire("shop.mail".into(), "bob".into(), TTL)).unwrap();

        assert_eq!(other.unwrap().owner, "bob");
    }

    pub(super) fn tokens_go_on_increasing_after_reopening(f: &mut Store) {
        let first = acquire(f, "ann").unwrap();

        if !f.reopen() {
            return skip(
                "tokens_go_on_increasing_after_reopening",
                "the adapter is not durable",
            );
        }

        assert_eq!(acquire(f, "bob"), None, "a restart does not end a lease");
        assert!(release(f, "ann"));
        assert!(acquire(f, "bob").unwrap().token > first.token);
    }
}
