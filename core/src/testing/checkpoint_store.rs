//! What every [`CheckpointStore`] must do: `orkestra::checkpoint_store_suite!(factory)`.

use super::Fixture;
use crate::ports::CheckpointStore;

suite! {
    /// Makes one test per case of the checkpoint store suite. Takes a function that returns a `Fixture<dyn CheckpointStore>`.
    checkpoint_store_suite(dyn CheckpointStore) in checkpoint_store, $
    cases: [
        g01_what_is_saved_is_loaded,
        g02_a_lower_position_is_refused,
        g02_a_reset_may_go_back,
        g03_another_position_than_expected_is_a_mismatch,
        g03_one_of_sixteen_racing_savers_wins,
        g04_names_are_independent,
        g05_waiting_ends_at_once_when_already_there,
        g05_waiting_ends_on_arrival,
        checkpoints_survive_reopening,
    ]
}

mod cases {
    use std::thread;

    use super::{CheckpointStore, Fixture};
    use crate::{
        ports::{Checkpoint, Expected, Position, SaveCheckpoint, StoreError},
        testing::{Started, block_on, skip},
    };

    type Store = Fixture<dyn CheckpointStore>;

    const BOARD: &str = "shop.board";

    fn save(
        f: &Store,
        name: &str,
        position: impl Into<Option<u64>>,
        expected: Expected,
    ) -> Result<(), StoreError> {
        let options = SaveCheckpoint::expected(expected);
        let position = position.into().map(Position);
        block_on(f.store().save(name.into(), position, options))
    }

    fn at(position: impl Into<Option<u64>>) -> Expected {
        Expected::At(position.into().map(Position))
    }

    fn load(f: &Store, name: &str) -> Option<Checkpoint> {
        block_on(f.store().load(name.into())).unwrap()
    }

    fn place(f: &Store, name: &str) -> Option<u64> {
        load(f, name).and_then(|c| c.position).map(|p| p.0)
    }

    #[track_caller]
    fn behind(result: Result<(), StoreError>) -> (u64, u64) {
        match result {
            Err(StoreError::CheckpointBehind {
                position, actual, ..
            }) => (position, actual),
            other => panic!("expected a checkpoint behind, found {other:?}"),
        }
    }

    #[track_caller]
    fn mismatch(result: Result<(), StoreError>) -> (Option<u64>, Option<u64>) {
        match result {
            Err(StoreError::CheckpointMismatch {
                expected, actual, ..
            }) => (expected, actual),
            other => panic!("expected a checkpoint mismatch, found {other:?}"),
        }
    }

    pub(super) fn g01_what_is_saved_is_loaded(f: &Store) {
        assert_eq!(load(f, BOARD), None);

        save(f, BOARD, 7, Expected::Any).unwrap();
        let checkpoint = load(f, BOARD).unwrap();
        assert_eq!(checkpoint.name, BOARD);
        assert_eq!(checkpoint.position, Some(Position(7)));

        for position in [7, 8, 1 << 40, i64::MAX as u64] {
            save(f, BOARD, position, Expected::Any).unwrap();
            assert_eq!(place(f, BOARD), Some(position));
        }
    }

    pub(super) fn g02_a_lower_position_is_refused(f: &Store) {
        save(f, BOARD, 7, Expected::Any).unwrap();

        assert_eq!(behind(save(f, BOARD, 6, Expected::Any)), (6, 7));
        assert_eq!(behind(save(f, BOARD, 6, at(7))), (6, 7));
        assert_eq!(behind(save(f, BOARD, None, Expected::Any)), (0, 7));

        assert_eq!(place(f, BOARD), Some(7));
    }

    pub(super) fn g02_a_reset_may_go_back(f: &Store) {
        save(f, BOARD, 7, Expected::Any).unwrap();

        save(f, BOARD, 3, Expected::Reset).unwrap();
        assert_eq!(place(f, BOARD), Some(3));

        save(f, BOARD, None, Expected::Reset).unwrap();
        assert_eq!(load(f, BOARD).map(|c| c.position), Some(None));
        save(f, BOARD, 1, at(None)).unwrap();
        assert_eq!(place(f, BOARD), Some(1));
    }

    pub(super) fn g03_another_position_than_expected_is_a_mismatch(f: &Store) {
        assert_eq!(mismatch(save(f, BOARD, 9, at(7))), (Some(7), None));
        save(f, BOARD, 7, at(None)).unwrap();

        assert_eq!(mismatch(save(f, BOARD, 9, at(None))), (None, Some(7)));
        assert_eq!(mismatch(save(f, BOARD, 9, at(8))), (Some(8), Some(7)));
        assert_eq!(place(f, BOARD), Some(7));

        save(f, BOARD, 9, at(7)).unwrap();
        assert_eq!(place(f, BOARD), Some(9));
    }

    pub(super) fn g03_one_of_sixteen_racing_savers_wins(f: &Store) {
        let won: usize = thread::scope(|scope| {
            let savers: Vec<_> = (1..=16)
                .map(|n| {
                    let store = f.shared();
                    scope.spawn(move || {
                        let save = store.save(
                            BOARD.into(),
                            Some(Position(n)),
                            SaveCheckpoint::expected(at(None)),
                        );
                        usize::from(block_on(save).is_ok())
                    })
                })
                .collect();
            savers.into_iter().map(|s| s.join().unwrap()).sum()
        });

        assert_eq!(won, 1);
    }

    pub(super) fn g04_names_are_independent(f: &Store) {
        save(f, BOARD, 7, Expected::Any).unwrap();
        save(f, "shop.mail", 3, at(None)).unwrap();

        assert_eq!((place(f, BOARD), place(f, "shop.mail")), (Some(7), Some(3)));
        assert_eq!(place(f, "Shop.Board"), None);
    }

    pub(super) fn g05_waiting_ends_at_once_when_already_there(f: &Store) {
        save(f, BOARD, 7, Expected::Any).unwrap();

        for position in [1, 6, 7] {
            block_on(f.store().wait_until(BOARD.into(), Position(position))).unwrap();
        }
    }

    pub(super) fn g05_waiting_ends_on_arrival(f: &Store) {
        let wait = |name: &str| Started::new(f.store().wait_until(name.into(), Position(7)));
        let (mut early, exact, later) = (wait(BOARD), wait("shop.mail"), wait("shop.stock"));
        // The caller's time limit is over: it drops the wait.
        drop(wait(BOARD));

        save(f, BOARD, 6, Expected::Any).unwrap();
        save(f, "shop.mail", 7, Expected::Any).unwrap();
        save(f, "shop.stock", 100, Expected::Any).unwrap();

        exact.finish().unwrap();
        later.finish().unwrap();
        assert!(!early.is_done(), "6 is before 7");
        save(f, BOARD, 7, Expected::Any).unwrap();
        early.finish().unwrap();
    }

    pub(super) fn checkpoints_survive_reopening(f: &mut Store) {
        save(f, BOARD, 7, Expected::Any).unwrap();

        if !f.reopen() {
            return skip(
                "checkpoints_survive_reopening",
                "the adapter is not durable",
            );
        }

        assert_eq!(place(f, BOARD), Some(7));
        assert_eq!(behind(save(f, BOARD, 6, Expected::Any)), (6, 7));
    }
}
