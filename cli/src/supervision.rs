//! When to start which process, and when to stop: decided here, done by [`crate::supervisor`].

use std::time::Duration;

use crate::exit;

/// When a process that ended is started again.
///
/// The default gives up after some eleven seconds, and later than a message that kills every process it meets
/// becomes a dead letter (`crash_limit` of the bus, 5 unless set).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// A process that lived shorter ended quickly.
    pub(crate) quick: Duration,
    /// Give up after so many quick ends in a row of one slot.
    pub(crate) limit: u32,
    /// Wait before a start after the first quick end; twice as long after each further one. Not after a long life.
    pub(crate) first_delay: Duration,
    /// The longest wait.
    pub(crate) max_delay: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            quick: Duration::from_secs(5),
            limit: 8,
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
        }
    }
}

/// The processes of one worker, by slot: 0 to `processes` - 1. Times are those of one monotonic clock.
#[derive(Debug)]
pub(crate) struct Supervision {
    policy: Policy,
    slots: Vec<Slot>,
    phase: Phase,
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Quick ends in a row.
    quick: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting { until: Duration },
    Running { since: Duration },
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Working,
    /// Ends with `code` when the last process has. `told` if it was by a signal.
    Stopping {
        code: i32,
        told: bool,
    },
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start the process of a slot and say so by [`Supervision::started`].
    Start(usize),
    /// Wait for a process to end or for a signal; at most so long.
    Wait(Option<Duration>),
    /// No process runs: leave with this code.
    Exit(i32),
}

/// What the end of a process means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Expected,
    /// It is started again after this time.
    Again(Duration),
    /// It ended quickly too often: terminate the others.
    GaveUp,
}

/// What a signal means for the processes that run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The first: let them finish.
    Terminate,
    /// The first, when they finish already.
    Wait,
    /// A further one.
    Kill,
}

impl Supervision {
    pub(crate) fn new(processes: usize, policy: Policy) -> Self {
        let waiting = |_| Slot {
            state: State::Waiting {
                until: Duration::ZERO,
            },
            quick: 0,
        };
        Self {
            policy,
            slots: (0..processes).map(waiting).collect(),
            phase: Phase::Working,
        }
    }

    pub(crate) fn next(&self, now: Duration) -> Next {
        if let Phase::Stopping { code, .. } = self.phase {
            let running = |slot: &Slot| matches!(slot.state, State::Running { .. });
            return if self.slots.iter().any(running) {
                Next::Wait(None)
            } else {
                Next::Exit(code)
            };
        }
        let first = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| match slot.state {
                State::Waiting { until } => Some((until, index)),
                State::Running { .. } => None,
            })
            .min();
        match first {
            Some((until, slot)) if until <= now => Next::Start(slot),
            Some((until, _)) => Next::Wait(Some(until.saturating_sub(now))),
            None => Next::Wait(None),
        }
    }

    pub(crate) fn started(&mut self, slot: usize, now: Duration) {
        self.slots[slot].state = State::Running { since: now };
    }

    /// The process of `slot` is gone; `clean` if it left nothing unfinished.
    pub(crate) fn ended(&mut self, slot: usize, clean: bool, now: Duration) -> Ended {
        let slot = &mut self.slots[slot];
        let State::Running { since } = slot.state else {
            return Ended::Expected;
        };
        slot.state = State::Waiting { until: now };
        if let Phase::Stopping { code, .. } = &mut self.phase {
            if !clean && *code == exit::DONE {
                *code = exit::FAILED;
            }
            return Ended::Expected;
        }
        if now.saturating_sub(since) >= self.policy.quick {
            slot.quick = 0;
            return Ended::Again(Duration::ZERO);
        }
        slot.quick += 1;
        if slot.quick >= self.policy.limit {
            self.phase = Phase::Stopping {
                code: exit::GAVE_UP,
                told: false,
            };
            return Ended::GaveUp;
        }
        let delay = self
            .policy
            .first_delay
            .saturating_mul(1 << (slot.quick - 1).min(16))
            .min(self.policy.max_delay);
        slot.state = State::Waiting { until: now + delay };
        Ended::Again(delay)
    }

    /// SIGTERM or SIGINT came.
    pub(crate) fn signalled(&mut self, signal: i32) -> Stop {
        let (code, stop) = match self.phase {
            Phase::Working => (exit::DONE, Stop::Terminate),
            // The first signal, though they are told to finish already; told twice they would stop at once.
            Phase::Stopping { code, told: false } => (code, Stop::Wait),
            Phase::Stopping { told: true, .. } => (exit::stopped_by(signal), Stop::Kill),
        };
        self.phase = Phase::Stopping { code, told: true };
        stop
    }

    /// A process cannot be started at all.
    pub(crate) fn cannot_start(&mut self) {
        self.phase = Phase::Stopping {
            code: exit::FAILED,
            told: false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FIRST: Duration = Duration::from_millis(100);

    /// One slot whose process was started at `now`.
    fn running(now: Duration) -> Supervision {
        let mut supervision = Supervision::new(1, Policy::default());
        assert_eq!(supervision.next(now), Next::Start(0));
        supervision.started(0, now);
        supervision
    }

    #[test]
    fn every_slot_is_started_at_once() {
        let mut supervision = Supervision::new(2, Policy::default());

        assert_eq!(supervision.next(SECOND), Next::Start(0));
        supervision.started(0, SECOND);
        assert_eq!(supervision.next(SECOND), Next::Start(1));
        supervision.started(1, SECOND);

        assert_eq!(supervision.next(SECOND), Next::Wait(None));
    }

    #[test]
    fn quick_ends_wait_twice_as_long_each_time_and_then_give_up() {
        let mut supervision = running(Duration::ZERO);
        let mut now = Duration::ZERO;

        let mut waited = Vec::new();
        while let Ended::Again(delay) = supervision.ended(0, false, now) {
            assert_eq!(supervision.next(now), Next::Wait(Some(delay)));
            waited.push(delay.as_millis());
            now += delay;
            assert_eq!(supervision.next(now), Next::Start(0));
            supervision.started(0, now);
        }

        assert_eq!(waited, [100, 200, 400, 800, 1600, 3200, 5000]);
        assert_eq!(supervision.next(now), Next::Exit(exit::GAVE_UP));
    }

    #[test]
    fn a_long_life_forgets_the_quick_ends_before() {
        let mut supervision = running(Duration::ZERO);
        assert_eq!(supervision.ended(0, false, SECOND), Ended::Again(FIRST));
        supervision.started(0, SECOND);

        assert_eq!(
            supervision.ended(0, false, 60 * SECOND),
            Ended::Again(Duration::ZERO)
        );
        supervision.started(0, 60 * SECOND);

        assert_eq!(
            supervision.ended(0, false, 61 * SECOND),
            Ended::Again(FIRST)
        );
    }

    #[test]
    fn a_clean_end_that_nobody_asked_for_is_started_again() {
        let mut supervision = running(Duration::ZERO);

        assert_eq!(supervision.ended(0, true, SECOND), Ended::Again(FIRST));
    }

    #[test]
    fn a_signal_terminates_waits_for_all_and_starts_none() {
        let mut supervision = Supervision::new(2, Policy::default());
        supervision.started(0, Duration::ZERO);
        supervision.started(1, Duration::ZERO);

        assert_eq!(supervision.signalled(15), Stop::Terminate);
        assert_eq!(supervision.ended(0, true, SECOND), Ended::Expected);
        assert_eq!(supervision.next(SECOND), Next::Wait(None));
        assert_eq!(supervision.ended(1, true, SECOND), Ended::Expected);

        assert_eq!(supervision.next(SECOND), Next::Exit(exit::DONE));
    }

    #[test]
    fn a_process_that_fails_while_it_stops_makes_the_whole_fail() {
        let mut supervision = running(Duration::ZERO);

        supervision.signalled(15);
        supervision.ended(0, false, SECOND);

        assert_eq!(supervision.next(SECOND), Next::Exit(exit::FAILED));
    }

    #[test]
    fn a_second_signal_kills_and_is_the_exit_code() {
        let mut supervision = running(Duration::ZERO);

        assert_eq!(supervision.signalled(15), Stop::Terminate);
        assert_eq!(supervision.signalled(2), Stop::Kill);
        supervision.ended(0, false, SECOND);

        assert_eq!(supervision.next(SECOND), Next::Exit(130));
    }

    #[test]
    fn the_first_signal_after_giving_up_kills_nobody() {
        let mut supervision = Supervision::new(2, Policy::default());
        supervision.started(0, Duration::ZERO);
        for _ in 0..Policy::default().limit {
            supervision.started(1, Duration::ZERO);
            supervision.ended(1, false, Duration::ZERO);
        }

        assert_eq!(supervision.signalled(15), Stop::Wait);
        assert_eq!(supervision.signalled(15), Stop::Kill);
        supervision.ended(0, true, SECOND);

        assert_eq!(supervision.next(SECOND), Next::Exit(143));
    }

    #[test]
    fn a_signal_while_a_start_waits_leaves_at_once() {
        let mut supervision = running(Duration::ZERO);
        supervision.ended(0, false, SECOND);

        supervision.signalled(2);

        assert_eq!(supervision.next(SECOND), Next::Exit(exit::DONE));
    }
}
