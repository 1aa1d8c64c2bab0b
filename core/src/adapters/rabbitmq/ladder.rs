//! The delays that retries wait for: a fixed ladder of queues that all services share. Pure.

use std::time::Duration;

/// Milliseconds, ascending.
pub(super) const RUNGS: [u64; 17] = [
    100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 900_000,
    1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000,
];

/// Where a message waits, and what remains of its wait after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The rung in milliseconds.
    pub(super) rung: u64,
    /// Milliseconds still to wait when the rung is over.
    pub(super) rest: u64,
}

/// The way to wait for `after`, never shorter: the smallest rung that is long enough, or the last one and the rest after it. `None` for no wait.
pub(super) fn step(after: Duration) -> Option<Step> {
    let wait = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if wait == 0 {
        return None;
    }
    let longest = RUNGS[RUNGS.len() - 1];
    let rung = RUNGS
        .into_iter()
        .find(|rung| *rung >= wait)
        .unwrap_or(longest);
    Some(Step {
        rung,
        rest: wait.saturating_sub(rung),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wait_takes_the_next_longer_rung() {
        let of = |millis| step(Duration::from_millis(millis)).unwrap();
        assert_eq!(step(Duration::ZERO), None);
        assert_eq!(of(1), Step { rung: 100, rest: 0 });
        assert_eq!(of(100), Step { rung: 100, rest: 0 });
        assert_eq!(of(101), Step { rung: 250, rest: 0 });
        assert_eq!(
            step(Duration::from_micros(100_001)).unwrap(),
            Step { rung: 250, rest: 0 }
        );
        assert_eq!(
            of(86_400_001),
            Step {
                rung: 86_400_000,
                rest: 1
            }
        );
    }

    proptest! {
        #[test]
        fn a_wait_is_never_shortened(millis in 1_u64..400_000_000) {
            let (mut waited, mut rest) = (0, millis);
            while let Some(step) = step(Duration::from_millis(rest)) {
                waited += step.rung;
                rest = step.rest;
            }
            prop_assert!(waited >= millis);
            prop_assert!(waited <= (millis * 5 / 2).max(100) + 86_400_000);
        }
    }
}
