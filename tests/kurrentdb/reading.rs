//! Reads and subscriptions.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Shared,
    log::{Log, Readable, Record},
    messages::{
        AllOptions, CaughtUp, Confirmation, Content, Empty, EventPosition, Expression, Filter,
        FilterOn, NotFound, Position, PositionFrom, ReadEvent, ReadFilter, ReadHow, ReadOptions,
        ReadRequest, ReadResponse, ReadWhat, RecordedEvent, RevisionFrom, StreamIdentifier,
        StreamOptions, Time,
    },
    service::{name, stream_deleted, wire_id},
};

/// What a read answers.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

/// How many events pass a filter by before a checkpoint is told.
const CHECKPOINT: usize = 32;

/// Answers a read.
pub(super) fn read(shared: &Arc<Shared>, request: ReadRequest) -> Result<Answers, Status> {
    let missing = || Status::invalid_argument("something is missing");
    let options = request.options.ok_or_else(missing)?;
    let what = options.what.clone().ok_or_else(missing)?;
    options.ids.ok_or_else(missing)?;
    let how = options.how.ok_or_else(missing)?;
    match (options.filter.as_ref().ok_or_else(missing)?, &what, how) {
        (ReadFilter::Filter(_), ReadWhat::Stream(_), _) => {
            return Err(Status::invalid_argument("The combination is invalid."));
        }
        (ReadFilter::Filter(filter), _, ReadHow::Subscription(_))
            if filter.checkpoint_interval_multiplier == 0 =>
        {
            return Err(Status::unknown("Exception was thrown by handler."));
        }
        _ => {}
    }
    match (what, how) {
        (ReadWhat::Stream(of), ReadHow::Count(count)) => {
            let answers = shared.read(|log| read_stream(shared, log, &options, of, count))?;
            Ok(Box::pin(stream::iter(answers.into_iter().map(Ok))))
        }
        (ReadWhat::All(from), ReadHow::Count(count)) => {
            let (answers, ends) =
                shared.read(|log| read_all(shared, log, &options, from, count))?;
            let answers = stream::iter(answers.into_iter().map(Ok));
            if ends {
                return Ok(Box::pin(answers));
            }
            Ok(Box::pin(answers.chain(stream::pending())))
        }
        (ReadWhat::All(from), ReadHow::Subscription(_)) => subscribe(shared, &options, from),
        (ReadWhat::Stream(_), ReadHow::Subscription(_)) => Err(Status::unimplemented(
            "the stand-in has no subscriptions to streams",
        )),
    }
}

fn content(content: Content) -> ReadResponse {
    ReadResponse {
        content: Some(content),
    }
}

fn event(record: &Record, has_position: bool) -> ReadResponse {
    let (prepare, commit) = if has_position {
        (record.position, record.commit)
    } else {
        (u64::MAX, u64::MAX)
    };
    let mut metadata = record.system.clone();
    // Ticks of 100 ns since 1970.
    metadata.insert("created".into(), "17746128000000000".into());
    content(Content::Event(ReadEvent {
        event: Some(RecordedEvent {
            id: Some(wire_id(record.id)),
            stream: Some(StreamIdentifier {
                stream_name: record.stream.as_bytes().to_vec().into(),
            }),
            revision: record.revision,
            prepare,
            commit,
            metadata,
            custom_metadata: record.metadata.clone(),
            data: record.data.clone(),
        }),
        position: Some(if has_position {
            EventPosition::Commit(commit)
        } else {
            EventPosition::None(Empty {})
        }),
    }))
}

fn read_stream(
    shared: &Shared,
    log: &Log,
    options: &ReadOptions,
    of: StreamOptions,
    count: u64,
) -> Result<Vec<ReadResponse>, Status> {
    let stream = name(of.stream.clone())?;
    shared.may_read(&stream)?;
    let (first, last) = match log.readable(&stream) {
        Readable::From(first, last) => (first, last),
        Readable::Deleted => return Err(stream_deleted(&stream)),
        Readable::NotFound => {
            let stream = of.stream;
            return Ok(vec![content(Content::StreamNotFound(NotFound { stream }))]);
        }
    };
    let forwards = options.direction == 0;
    let from = match of.from {
        Some(RevisionFrom::Revision(revision)) if i64::try_from(revision).is_err() => {
            return Err(Status::unknown("a revision is a signed number"));
        }
        Some(RevisionFrom::Revision(revision)) => revision,
        Some(RevisionFrom::End(_)) => last,
        _ => 0,
    };
    let take = usize::try_from(count).unwrap_or(usize::MAX);
    let revisions: Vec<u64> = if forwards {
        (from.max(first)..=last).take(take).collect()
    } else {
        (first..=from.min(last)).rev().take(take).collect()
    };
    let has_positions = shared.tells_positions();
    let events = revisions
        .iter()
        .filter_map(|revision| log.event(&stream, *revision));
    let mut answers: Vec<_> = events.map(|record| event(record, has_positions)).collect();
    if shared.is_cut() {
        answers.truncate(1);
        return Ok(answers);
    }
    let compatible = options
        .control
        .is_some_and(|control| control.compatibility > 0);
    if compatible {
        if forwards && answers.is_empty() && from != first.max(last + 1) {
            answers.push(content(Content::FirstStreamPosition(first.max(last + 1))));
        }
        answers.push(content(Content::LastStreamPosition(last)));
    }
    Ok(answers)
}

/// The place in the log of what follows `from`, that one included.
fn place(log: &Log, from: Position) -> Result<usize, Status> {
    // As the library has it where the server knows no answer.
    let invalid = || Status::unknown("Unexpected FilteredReadAllResult: InvalidPosition");
    log.place(from.commit, from.prepare).ok_or_else(invalid)
}

/// What is found, and whether the search comes to an end: behind the last event that was asked for the server looks for one more.
fn read_all(
    shared: &Shared,
    log: &Log,
    options: &ReadOptions,
    of: AllOptions,
    count: u64,
) -> Result<(Vec<ReadResponse>, bool), Status> {
    let filter = filter(options)?;
    let records = log.records();
    let forwards = options.direction == 0;
    let begin = match of.from {
        Some(PositionFrom::Position(from)) => place(log, from)?,
        Some(PositionFrom::End(_)) => records.len(),
        _ => 0,
    };
    let there: Box<dyn Iterator<Item = &Record>> = if forwards {
        Box::new(records[begin..].iter())
    } else {
        Box::new(records[..begin].iter().rev())
    };
    let take = usize::try_from(count).unwrap_or(usize::MAX);
    let (mut answers, mut passed_over) = (Vec::new(), 0);
    for record in there {
        if !passes(filter.as_ref(), record) {
            passed_over += 1;
            if !shared.finds(passed_over) {
                return Ok((answers, false));
            }
            continue;
        }
        if answers.len() == take {
            break;
        }
        passed_over = 0;
        answers.push(event(record, true));
    }
    Ok((answers, true))
}

fn filter(options: &ReadOptions) -> Result<Option<Filter>, Status> {
    let Some(ReadFilter::Filter(filter)) = options.filter.clone() else {
        return Ok(None);
    };
    if filter.window.is_none() {
        return Err(Status::invalid_argument("'None' is not a valid window"));
    }
    match &filter.on {
        Some(FilterOn::Stream(e) | FilterOn::EventType(e))
            if e.regex.is_empty() || ["^[^$]", "^[^\\$].*"].contains(&e.regex.as_str()) =>
        {
            Ok(Some(filter))
        }
        _ => Err(Status::unimplemented(
            "the stand-in knows prefixes and the pattern for what is not the server's own",
        )),
    }
}

fn passes(filter: Option<&Filter>, record: &Record) -> bool {
    let matches = |expression: &Expression, text: &str| {
        if expression.regex.is_empty() {
            expression
                .prefix
                .iter()
                .any(|prefix| text.starts_with(prefix))
        } else {
            !text.is_empty() && !text.starts_with('$')
        }
    };
    match filter.and_then(|filter| filter.on.as_ref()) {
        None => true,
        Some(FilterOn::Stream(expression)) => matches(expression, &record.stream),
        Some(FilterOn::EventType(expression)) => matches(expression, record.type_name()),
    }
}

fn subscribe(
    shared: &Arc<Shared>,
    options: &ReadOptions,
    of: AllOptions,
) -> Result<Answers, Status> {
    let filter = filter(options)?;
    let mut next = shared.read(|log| match of.from {
        Some(PositionFrom::Position(from)) => {
            let next = place(log, from)?;
            let at = log.records().get(next);
            let is_there =
                at.is_some_and(|r| (r.commit, r.position) == (from.commit, from.prepare));
            Ok::<usize, Status>(next + usize::from(is_there))
        }
        Some(PositionFrom::End(_)) => Ok(log.records().len()),
        _ => Ok(0),
    })?;
    let (sender, receiver) = mpsc::channel(64);
    let (shared, mut changes) = (Arc::clone(shared), shared.changes());
    tokio::spawn(async move {
        let confirmation = Confirmation {
            subscription_id: "1".into(),
        };
        let mut answers = vec![content(Content::Confirmation(confirmation))];
        let (mut passed_by, mut live) = (0, false);
        let mut caught_up = CaughtUp {
            time: Some(Time { seconds: 1 }),
            position: None,
        };
        loop {
            // Whatever comes after this look is told as a change.
            changes.borrow_and_update();
            shared.read(|log| {
                for record in &log.records()[next..] {
                    let position = Position {
                        commit: record.commit,
                        prepare: record.position,
                    };
                    caught_up.position = Some(position);
                    if passes(filter.as_ref(), record) {
                        answers.push(event(record, true));
                        continue;
                    }
                    passed_by += 1;
                    if passed_by % CHECKPOINT == 0 {
                        answers.push(content(Content::Checkpoint(position)));
                    }
                }
                next = log.records().len();
            });
            if !live {
                live = true;
                answers.push(content(Content::CaughtUp(caught_up)));
            }
            for answer in answers.drain(..) {
                if sender.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
            let dropped = tokio::select! {
                changed = changes.changed() => changed.is_err(),
                () = shared.subscriptions_dropped() => true,
                () = sender.closed() => return,
            };
            if dropped {
                let status = Status::unavailable("the subscription was dropped");
                // The other side may be gone already.
                let _ = sender.send(Err(status)).await;
                return;
            }
        }
    });
    Ok(Box::pin(stream::unfold(receiver, |mut receiver| async {
        let answer = receiver.recv().await?;
        Some((answer, receiver))
    })))
}
