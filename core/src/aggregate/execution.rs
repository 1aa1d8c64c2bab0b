//! The steps of executing one command on one aggregate. Sans-io: the host performs an [`Action`] and reports, in every language the same way.
//!
//! ```text
//! Start -> [LoadSnapshot] -> Load* -> Decide -> Append -> [SaveSnapshot] -> Done
//!                              ^                  | conflict (decide again)
//!                              +------------------+
//! nothing decided, refused, or stored already -> FindRecorded -> [ReadRecorded] -> Done / Refuse
//! ```
//!
//! An append checks a cached state by its revision. A decision that appends nothing is checked by nobody, so it is made again after the tail
//! was read.

use uuid::Uuid;

use crate::{
    clock::derive_event_id,
    ports::{
        Appended, EventRef, ExpectedRevision, MAX_BATCH, Position, RecordedEvent, StoreError,
        StreamPage,
    },
};

/// Events that one load reads at a time.
const PAGE: usize = 1000;

/// What an execution is about.
#[derive(Debug, Clone, Copy)]
pub struct ExecutionOptions {
    /// The command's id, from which the ids of its events follow.
    pub command_id: Uuid,
    /// Take a snapshot after this many events; `None` for never.
    pub snapshot_every: Option<u64>,
    /// The aggregate's schema version; a snapshot of another version is not used.
    pub schema_version: u32,
    /// How often to decide again after a conflict. The default of apps is 3.
    pub conflict_retries: u32,
    /// The revision that the host's cached state is folded to (`Some(None)`: the state of a stream without events); `None` without a cache.
    pub cached: Option<Option<u64>>,
}

/// What the host does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Set the state to the aggregate's initial one, then [`Execution::started`].
    Start,
    /// Load the snapshot, then [`Execution::snapshot`].
    LoadSnapshot,
    /// Read this page of the stream, fold it, then [`Execution::loaded`].
    Load {
        /// First revision.
        from: u64,
        /// Events at most.
        limit: usize,
    },
    /// Call `decide`, then [`Execution::decided`] or [`Execution::refused`].
    Decide,
    /// Append the decided events, then [`Execution::appended`].
    Append {
        /// What the stream has to be like.
        expected: ExpectedRevision,
    },
    /// Look this event up, then [`Execution::found`]: the command may have been executed before.
    FindRecorded {
        /// The id that the command's first event has.
        event_id: Uuid,
    },
    /// Read this page; those of [`recorded_prefix`] are what the command did before; then [`Execution::read_recorded`].
    ReadRecorded {
        /// First revision.
        from: u64,
        /// Events at most.
        limit: usize,
    },
    /// Save a snapshot of the state with the decided events folded in, then [`Execution::saved`] whether it went well or not.
    SaveSnapshot {
        /// Its revision.
        revision: u64,
    },
    /// Answer with the host's refusal or error.
    Refuse,
    /// Answer with this.
    Done(Executed),
}

/// What an execution did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executed {
    /// The stream's last revision that belongs to the answer; `None` for a stream without events.
    pub revision: Option<u64>,
    /// The position of the command's last event, now or before; `None` if it made none.
    pub position: Option<Position>,
    /// Events appended by the command, now or before.
    pub events: usize,
    /// Whether the command had been executed before and nothing was appended now.
    pub repeated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Nothing,
    Refused,
    Stored,
}

/// One command on its way through one aggregate.
#[derive(Debug)]
pub struct Execution {
    options: ExecutionOptions,
    action: Action,
    /// The revision that the host's state is folded to.
    revision: Option<u64>,
    snapshot: Option<u64>,
    position: Option<Position>,
    conflicts: u32,
    decided: usize,
    why: Why,
    /// The state comes from a cache and nobody has looked whether the stream has gone on.
    unchecked: bool,
}

impl Execution {
    /// Begins.
    pub fn new(options: ExecutionOptions) -> Self {
        let (action, revision) = match options.cached {
            Some(revision) => (Action::Decide, revision),
            None => (Action::Start, None),
        };
        Self {
            options,
            action,
            revision,
            snapshot: None,
            position: None,
            conflicts: 0,
            decided: 0,
            why: Why::Nothing,
            unchecked: options.cached.is_some(),
        }
    }

    /// What to do now.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The revision that the state is folded to.
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// How often somebody else was faster.
    pub fn conflicts(&self) -> u32 {
        self.conflicts
    }

    /// The state is the initial one.
    pub fn started(&mut self) {
        self.revision = None;
        self.action = if self.options.snapshot_every.is_some() {
            Action::LoadSnapshot
        } else {
            self.load()
        };
    }

    /// A snapshot of this revision and schema version was found, or none. Returns whether its state is to be used.
    pub fn snapshot(&mut self, found: Option<(u64, u32)>) -> bool {
        let usable = found.filter(|(_, schema)| *schema == self.options.schema_version);
        self.snapshot = usable.map(|(revision, _)| revision);
        self.revision = self.snapshot;
        self.action = self.load();
        usable.is_some()
    }

    fn load(&mut self) -> Action {
        self.unchecked = false;
        Action::Load {
            from: self.revision.map_or(0, |r| r + 1),
            limit: PAGE,
        }
    }

    /// A page was read and its events folded.
    pub fn loaded(&mut self, page: &StreamPage) {
        self.folded(
            page.events.last().map(|e| e.revision),
            page.last_revision,
            page.end,
        );
    }

    /// As [`Execution::loaded`], from the page's facts: the revision of its last event, the stream's last revision, and whether it was the end.
    pub fn folded(&mut self, page_revision: Option<u64>, stream_revision: Option<u64>, end: bool) {
        if page_revision.is_some() {
            self.revision = page_revision;
        }
        if !end {
            self.action = self.load();
        } else if self.revision > stream_revision {
            // The stream was deleted under a snapshot or a cached state: begin anew, without them.
            self.options.snapshot_every = self
                .options
                .snapshot_every
                .filter(|_| self.snapshot.is_none());
            self.options.cached = None;
            self.snapshot = None;
            self.action = Action::Start;
        } else {
            // A soft deleted stream has no events to fold but goes on counting.
            self.revision = stream_revision;
            self.action = Action::Decide;
        }
    }

    /// `decide` returned this many events.
    pub fn decided(&mut self, events: usize) {
        self.decided = events;
        self.action = if events == 0 {
            self.nothing_to_append(Why::Nothing)
        } else {
            Action::Append {
                expected: self
                    .revision
                    .map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact),
            }
        };
    }

    /// `decide` refused or failed.
    pub fn refused(&mut self) {
        self.action = self.nothing_to_append(Why::Refused);
    }

    fn nothing_to_append(&mut self, why: Why) -> Action {
        if self.unchecked {
            self.load()
        } else {
            self.find(why)
        }
    }

    fn find(&mut self, why: Why) -> Action {
        self.why = why;
        Action::FindRecorded {
            event_id: derive_event_id(self.options.command_id, 0),
        }
    }

    /// The store answered the append.
    ///
    /// # Errors
    /// What the host has to answer with: a conflict when the attempts are used up, and every other error of the store.
    pub fn appended(&mut self, result: Result<Appended, StoreError>) -> Result<(), StoreError> {
        match result {
            Ok(Appended { repeated: true, .. }) | Err(StoreError::DuplicateEvent { .. }) => {
                self.action = self.find(Why::Stored);
                Ok(())
            }
            Ok(appended) => {
                self.revision = appended.revision;
                self.position = appended.position;
                self.action = match (self.options.snapshot_every, appended.revision) {
                    (Some(every), Some(revision))
                        if revision + 1 >= self.snapshot.map_or(0, |s| s + 1) + every.max(1) =>
                    {
                        Action::SaveSnapshot { revision }
                    }
                    _ => self.done(),
                };
                Ok(())
            }
            Err(StoreError::RevisionConflict { actual, .. })
                if self.conflicts < self.options.conflict_retries =>
            {
                self.conflicts += 1;
                // What is folded already stays: only the tail is read, unless the stream began anew.
                self.action = if actual < self.revision || actual.is_none() {
                    self.options.cached = None;
                    Action::Start
                } else {
                    self.load()
                };
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn done(&self) -> Action {
        Action::Done(Executed {
            revision: self.revision,
            position: self.position,
            events: self.decided,
            repeated: false,
        })
    }

    /// The snapshot was saved, or could not be: the command is done all the same.
    pub fn saved(&mut self) {
        self.action = self.done();
    }

    /// The lookup of [`Action::FindRecorded`] gave this.
    pub fn found(&mut self, event: Option<&EventRef>) {
        self.action = match (event, self.why) {
            (Some(event), _) => Action::ReadRecorded {
                from: event.revision,
                // What one command appended is one batch.
                limit: MAX_BATCH,
            },
            (None, Why::Nothing) => Action::Done(Executed {
                revision: self.revision,
                position: None,
                events: 0,
                repeated: false,
            }),
            (None, Why::Refused | Why::Stored) => Action::Refuse,
        };
    }

    /// The page of [`Action::ReadRecorded`] was read; the first `count` of its events are the command's, the last of them at this revision and
    /// position.
    pub fn read_recorded(&mut self, count: usize, last: Option<(u64, Position)>) {
        self.action = Action::Done(Executed {
            revision: last.map(|(revision, _)| revision).or(self.revision),
            position: last.map(|(_, position)| position),
            events: count,
            repeated: true,
        });
    }
}

/// How many of `events` are the ones that the command `command_id` made, from the first on.
pub fn recorded_prefix(command_id: Uuid, events: &[RecordedEvent]) -> usize {
    (0_u32..)
        .zip(events)
        .take_while(|(index, event)| event.id == derive_event_id(command_id, *index))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ExecutionOptions {
        ExecutionOptions {
            command_id: Uuid::from_u128(7),
            snapshot_every: None,
            schema_version: 1,
            conflict_retries: 3,
            cached: None,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a store answers")]
    fn stored(revision: u64) -> Result<Appended, StoreError> {
        Ok(Appended {
            revision: Some(revision),
            position: Some(Position(1)),
            repeated: false,
        })
    }

    /// An execution that has read the stream up to `revision`.
    fn loaded(revision: Option<u64>) -> Execution {
        let mut execution = Execution::new(options());
        execution.started();
        execution.folded(revision, revision, true);
        execution
    }

    fn conflict(actual: Option<u64>) -> Result<Appended, StoreError> {
        Err(StoreError::RevisionConflict {
            stream: "s".into(),
            expected: ExpectedRevision::NoStream,
            actual,
        })
    }

    #[test]
    fn a_command_is_loaded_decided_and_appended() {
        let mut execution = Execution::new(options());
        assert_eq!(execution.action(), Action::Start);
        execution.started();
        assert_eq!(
            execution.action(),
            Action::Load {
                from: 0,
                limit: PAGE
            }
        );
        execution.folded(Some(999), Some(1001), false);
        assert_eq!(
            execution.action(),
            Action::Load {
                from: 1000,
                limit: PAGE
            }
        );
        execution.folded(Some(1001), Some(1001), true);
        assert_eq!(execution.action(), Action::Decide);
        execution.decided(2);
        assert_eq!(
            execution.action(),
            Action::Append {
                expected: ExpectedRevision::Exact(1001)
            }
        );
        execution.appended(stored(1003)).unwrap();
        let done = Executed {
            revision: Some(1003),
            position: Some(Position(1)),
            events: 2,
            repeated: false,
        };
        assert_eq!(execution.action(), Action::Done(done));
    }

    #[test]
    fn a_conflict_reads_the_tail_and_decides_again_until_the_attempts_are_used_up() {
        let mut execution = Execution::new(ExecutionOptions {
            cached: Some(Some(4)),
            ..options()
        });
        for actual in 5..8 {
            assert_eq!(execution.action(), Action::Decide);
            execution.decided(1);
            execution.appended(conflict(Some(actual))).unwrap();
            assert_eq!(
                execution.action(),
                Action::Load {
                    from: actual,
                    limit: PAGE
                }
            );
            execution.folded(Some(actual), Some(actual), true);
        }
        execution.decided(1);

        assert!(execution.appended(conflict(Some(8))).is_err());
        assert_eq!(execution.conflicts(), 3);
    }

    #[test]
    fn a_stream_that_began_anew_is_loaded_from_the_start() {
        let mut execution = Execution::new(ExecutionOptions {
            cached: Some(Some(4)),
            ..options()
        });
        execution.decided(1);
        execution.appended(conflict(None)).unwrap();
        assert_eq!(execution.action(), Action::Start);
        execution.started();
        execution.folded(None, None, true);
        execution.decided(1);
        assert_eq!(
            execution.action(),
            Action::Append {
                expected: ExpectedRevision::NoStream
            }
        );
    }

    #[test]
    fn a_snapshot_saves_the_loading_and_is_renewed_in_time() {
        let with = ExecutionOptions {
            snapshot_every: Some(10),
            ..options()
        };
        let mut execution = Execution::new(with);
        execution.started();
        assert_eq!(execution.action(), Action::LoadSnapshot);
        assert!(execution.snapshot(Some((9, 1))));
        assert_eq!(
            execution.action(),
            Action::Load {
                from: 10,
                limit: PAGE
            }
        );
        execution.folded(Some(18), Some(18), true);
        execution.decided(1);
        execution.appended(stored(19)).unwrap();
        assert_eq!(execution.action(), Action::SaveSnapshot { revision: 19 });
        execution.saved();
        assert!(matches!(execution.action(), Action::Done(_)));

        let mut execution = Execution::new(with);
        execution.started();
        assert!(
            !execution.snapshot(Some((9, 2))),
            "another schema version is rebuilt"
        );
        assert_eq!(
            execution.action(),
            Action::Load {
                from: 0,
                limit: PAGE
            }
        );
    }

    #[test]
    fn a_snapshot_of_a_deleted_stream_is_left_out() {
        let mut execution = Execution::new(ExecutionOptions {
            snapshot_every: Some(10),
            ..options()
        });
        execution.started();
        execution.snapshot(Some((9, 1)));
        execution.folded(None, None, true);
        assert_eq!(execution.action(), Action::Start);
        execution.started();
        assert_eq!(
            execution.action(),
            Action::Load {
                from: 0,
                limit: PAGE
            }
        );
    }

    #[test]
    fn a_command_that_was_executed_before_gets_the_recorded_answer() {
        for refuse in [true, false] {
            let mut execution = loaded(Some(4));
            if refuse {
                execution.refused();
            } else {
                execution.decided(1);
                execution
                    .appended(Ok(Appended {
                        revision: Some(3),
                        position: None,
                        repeated: true,
                    }))
                    .unwrap();
            }
            let event_id = derive_event_id(Uuid::from_u128(7), 0);
            assert_eq!(execution.action(), Action::FindRecorded { event_id });
            execution.found(Some(&EventRef {
                stream: "s".into(),
                revision: 3,
                position: Position(9),
            }));
            assert_eq!(
                execution.action(),
                Action::ReadRecorded {
                    from: 3,
                    limit: MAX_BATCH
                }
            );
            execution.read_recorded(1, Some((3, Position(9))));
            let done = Executed {
                revision: Some(3),
                position: Some(Position(9)),
                events: 1,
                repeated: true,
            };
            assert_eq!(execution.action(), Action::Done(done));
        }
    }

    #[test]
    fn a_refusal_stands_when_nothing_is_recorded() {
        let mut execution = loaded(None);
        execution.refused();
        execution.found(None);
        assert_eq!(execution.action(), Action::Refuse);

        let mut execution = loaded(None);
        execution.decided(0);
        execution.found(None);
        let done = Executed {
            revision: None,
            position: None,
            events: 0,
            repeated: false,
        };
        assert_eq!(execution.action(), Action::Done(done));
    }

    #[test]
    fn a_cached_state_is_brought_up_to_date_before_nothing_is_appended() {
        for refuse in [true, false] {
            let mut execution = Execution::new(ExecutionOptions {
                cached: Some(Some(4)),
                ..options()
            });
            let decide = |execution: &mut Execution| {
                if refuse {
                    execution.refused();
                } else {
                    execution.decided(0);
                }
            };
            decide(&mut execution);
            assert_eq!(
                execution.action(),
                Action::Load {
                    from: 5,
                    limit: PAGE
                }
            );
            execution.folded(Some(6), Some(6), true);
            assert_eq!(execution.action(), Action::Decide);

            decide(&mut execution);

            assert!(matches!(execution.action(), Action::FindRecorded { .. }));
        }
    }
}
