//! Projections of the Rust app: E09, E12, A21, and rebuilding.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use orkestra::{
    AppError, Builder, Checkpoint, Error, HandlerError, Message, Orkestra, ReadModel, Recorded,
    code::Coded,
    ports::{
        DeadLetterFilter, EventStore, ExpectedRevision, NewEvent, Position, StoreError, StreamName,
    },
    projection::ProjectionError,
    retry::RetryPolicy,
    subscription::{Poison, SubscriptionError},
    telemetry::{Attribute, SpanSink, Telemetry},
};

use rusqlite::Connection;

use crate::{
    shop::{ItemAdded, OrderPlaced, Store, until},
    suite,
};

const MINUTE: Duration = Duration::from_secs(60);

/// How often a rebuild asks whether the live view has stepped back.
const PROMPT: Duration = Duration::from_millis(50);

/// A view in a file of its own.
#[derive(Clone)]
struct View {
    path: PathBuf,
    _folder: Arc<tempfile::TempDir>,
}

impl View {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            path: folder.path().join("views.db"),
            _folder: Arc::new(folder),
        }
    }

    fn open(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(MINUTE).unwrap();
        connection
    }

    /// Creates `board` + suffix; empty for a rebuild.
    fn prepare(&self, suffix: &str) {
        let drop = if suffix.is_empty() {
            ""
        } else {
            "DROP TABLE IF EXISTS board_rebuild;"
        };
        let sql = format!("{drop} CREATE TABLE IF NOT EXISTS board{suffix} (order_id TEXT)");
        self.open().execute_batch(&sql).unwrap();
    }

    fn rows(&self) -> Vec<String> {
        let connection = self.open();
        let mut statement = connection
            .prepare("SELECT order_id FROM board ORDER BY rowid")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// A handler that writes `prefix` + the order's id, unless `refuse` says otherwise.
    fn board(
        &self,
        prefix: &'static str,
        refuse: impl Fn(&str) -> Result<(), HandlerError> + Send + Sync + 'static,
    ) -> ReadModel {
        let (view, tables, renamed) = (self.clone(), self.clone(), self.clone());
        ReadModel::new(
            "board",
            move |events: Vec<Recorded<OrderPlaced>>, checkpoint: Checkpoint| {
                let written = write(&view, prefix, &events, &checkpoint, &refuse);
                async move { written }
            },
        )
        .prepare(move |checkpoint| {
            tables.prepare(checkpoint.suffix());
            async { Ok(()) }
        })
        .switch(move |checkpoint| {
            let done = rename(&renamed, &checkpoint);
            async move { done }
        })
    }
}

fn write(
    view: &View,
    prefix: &str,
    events: &[Recorded<OrderPlaced>],
    checkpoint: &Checkpoint,
    refuse: &(dyn Fn(&str) -> Result<(), HandlerError> + Send + Sync),
) -> Result<(), HandlerError> {
    let mut connection = view.open();
    let tx = connection.transaction()?;
    let sql = format!("INSERT INTO board{} VALUES (?1)", checkpoint.suffix());
    for Recorded { event, .. } in events {
        tx.execute(&sql, [format!("{prefix}{}", event.order_id)])?;
    }
    checkpoint.save_sqlite(&tx)?;
    for Recorded { event, .. } in events {
        refuse(&event.order_id)?;
    }
    Ok(tx.commit()?)
}

fn rename(view: &View, checkpoint: &Checkpoint) -> Result<(), HandlerError> {
    let mut connection = view.open();
    let tx = connection.transaction()?;
    tx.execute_batch("DROP TABLE board; ALTER TABLE board_rebuild RENAME TO board")?;
    checkpoint.switch_sqlite(&tx)?;
    Ok(tx.commit()?)
}

#[expect(clippy::unnecessary_wraps, reason = "as a handler that may refuse")]
fn good(_: &str) -> Result<(), HandlerError> {
    Ok(())
}

fn poisoned(order: &str) -> Result<(), HandlerError> {
    if order == "2" {
        return Err(HandlerError::text("no such order"));
    }
    Ok(())
}

async fn start(app: Builder, model: ReadModel) -> Orkestra {
    app.projection(model).start().await.unwrap()
}

async fn place(app: &Orkestra, orders: &[&str]) -> Position {
    let events = orders.iter().map(|order| {
        let data = format!("{{\"order_id\":\"{order}\"}}");
        recorded(OrderPlaced::TYPE_NAME, 1, data)
    });
    append(app, "order-1", events.collect()).await
}

/// The type of an order that is placed.
pub(crate) fn order() -> &'static str {
    OrderPlaced::TYPE_NAME
}

pub(crate) fn recorded(type_name: &str, version: u32, data: String) -> NewEvent {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NewEvent {
        id: uuid::Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed))),
        type_name: type_name.into(),
        version,
        data: data.into(),
        metadata: "{}".into(),
        occurred_at: orkestra::clock::Timestamp::from_micros(0),
    }
}

async fn append(app: &Orkestra, stream: &str, events: Vec<NewEvent>) -> Position {
    let store: &Arc<dyn EventStore> = app.store().unwrap();
    let stream = StreamName::new(stream).unwrap();
    let appended = store.append(stream, events, ExpectedRevision::Any).await;
    appended.unwrap().position.unwrap()
}

/// Waits until the board stands at `position`, and moves the clock on meanwhile.
async fn caught_up(store: &Store, app: &Orkestra, position: Position) {
    let checkpoints = &app.services().checkpoints;
    let waiting = checkpoints.wait_until("shop.board".into(), position);
    meanwhile(store, Duration::from_secs(1), waiting)
        .await
        .unwrap();
}

/// Polls `work` and moves the clock on by `step` at most whenever somebody sleeps: slowly, so that leases are renewed as they are in a process
/// that is alive.
async fn meanwhile<T>(store: &Store, step: Duration, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    for _ in 0..6_000 {
        let short = tokio::time::timeout(Duration::from_millis(10), &mut work);
        if let Ok(output) = short.await {
            return output;
        }
        if let Some(wait) = store.clock.next_wake().filter(|_| !store.is_remote()) {
            store.clock.advance(wait.min(step));
        }
    }
    panic!("it does not end");
}

async fn a_view_commits_together_with_its_checkpoint(store: Arc<Store>) {
    let view = View::new();
    let app = start(store.app(), view.board("", good)).await;
    let position = place(&app, &["1", "2"]).await;

    caught_up(&store, &app, position).await;

    assert_eq!(view.rows(), ["1", "2"]);
    app.caught_up("board", position, MINUTE).await.unwrap();
    until(|| !view.rows().is_empty()).await;
    let states = app.projections().await.unwrap();
    let state = &states[0];
    assert_eq!(
        (&*state.name, state.position, state.lag),
        ("board", Some(position), 0)
    );
    assert!(state.running && state.stopped.is_none());
    assert!(app.health().await.ok);
    app.close().await.unwrap();
}

async fn e12_what_is_rolled_back_is_handed_over_again(store: Arc<Store>) {
    let (view, failures) = (View::new(), AtomicU32::new(0));
    let model = view.board("", move |_| {
        // Saved, and then the transaction is rolled back, twice.
        if failures.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(HandlerError::text("not yet"));
        }
        Ok(())
    });
    let app = start(store.app(), model).await;

    let position = place(&app, &["1"]).await;
    caught_up(&store, &app, position).await;

    assert_eq!(view.rows(), ["1"]);
    assert_eq!(store.letters(&app).await, 0);
    app.close().await.unwrap();
}

async fn e09_a_poison_event_is_parked_and_the_rest_goes_on(store: Arc<Store>) {
    let view = View::new();
    let app = start(store.app(), view.board("", poisoned)).await;

    let position = place(&app, &["1", "2", "3"]).await;
    caught_up(&store, &app, position).await;

    assert_eq!(view.rows(), ["1", "3"]);
    if !store.is_remote() || store.is_durable() {
        let page = app
            .dead_letters()
            .list(DeadLetterFilter::default())
            .await
            .unwrap();
        let letter = &page.items[0];
        assert_eq!((page.total, &*letter.handler), (1, "shop.board"));
        assert_eq!((letter.attempts, letter.requeueable), (4, false));
    }
    app.close().await.unwrap();
}

async fn e09_a_poison_event_is_skipped(store: Arc<Store>) {
    let view = View::new();
    let model = view.board("", poisoned).poison(Poison::Skip);
    let app = start(store.app(), model.retry(RetryPolicy::retries(0))).await;

    let position = place(&app, &["1", "2", "3"]).await;
    caught_up(&store, &app, position).await;

    assert_eq!(view.rows(), ["1", "3"]);
    assert_eq!(store.letters(&app).await, 0);
    app.close().await.unwrap();
}

async fn e09_a_poison_event_stops_it_with_the_reason(store: Arc<Store>) {
    let view = View::new();
    let model = view.board("", poisoned).poison(Poison::Stop);
    let app = start(store.app(), model.retry(RetryPolicy::retries(0))).await;

    let position = place(&app, &["1", "2", "3"]).await;
    until(|| !app.stopped_subscriptions().is_empty()).await;

    assert_eq!(view.rows(), ["1"]);
    let error = app.caught_up("board", position, MINUTE).await.unwrap_err();
    assert_eq!(error.code(), "ORK_SUBSCRIPTION_STOPPED");
    assert_eq!(error.details()["reason"], "no such order");
    let health = app.health().await;
    assert!(!health.ok);
    let reason = health.projections[0].stopped.clone().unwrap();
    assert!(reason.ends_with("no such order"), "{reason}");
    app.close().await.unwrap();
}

async fn what_is_away_parks_nothing(store: Arc<Store>) {
    let (view, failures) = (View::new(), AtomicU32::new(0));
    let model = view.board("", move |_| {
        if failures.fetch_add(1, Ordering::SeqCst) < 20 {
            let reason = "connection refused".to_owned();
            return Err(StoreError::Unavailable { reason }.into());
        }
        Ok(())
    });
    let app = start(store.app(), model.retry(RetryPolicy::retries(0))).await;

    let position = place(&app, &["1", "2"]).await;
    caught_up(&store, &app, position).await;

    assert_eq!(view.rows(), ["1", "2"]);
    assert_eq!(store.letters(&app).await, 0);
    app.close().await.unwrap();
}

async fn what_could_not_be_prepared_is_read_again(store: Arc<Store>) {
    let (view, failures) = (View::new(), AtomicU32::new(0));
    let tables = view.clone();
    let model = view
        .board("", good)
        .batch_size(1)
        .prepare(move |checkpoint| {
            // Its database is away when the projection begins.
            let away = failures.fetch_add(1, Ordering::SeqCst) < 2;
            if !away {
                tables.prepare(checkpoint.suffix());
            }
            async move {
                if away {
                    return Err(HandlerError::text("connection refused"));
                }
                Ok(())
            }
        });
    let app = start(store.app(), model).await;

    let position = place(&app, &["1", "2", "3", "4"]).await;
    caught_up(&store, &app, position).await;

    assert_eq!(view.rows(), ["1", "2", "3", "4"]);
    app.close().await.unwrap();
}

async fn a21_events_of_an_old_schema_are_upcast(store: Arc<Store>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let model = ReadModel::new(
        "board",
        move |events: Vec<Recorded<ItemAdded>>, _: Checkpoint| {
            note.lock()
                .unwrap()
                .extend(events.into_iter().map(|e| e.event));
            async { Ok(()) }
        },
    );
    let app = start(store.app(), model).await;
    let old = recorded("Shop.Carts.Events.ItemPut", 1, "{\"amount\":2}".into());

    let position = append(&app, "cart-1", vec![old]).await;
    caught_up(&store, &app, position).await;

    let unit = "piece".to_owned();
    // It saves no checkpoint, so it may get the event more than once.
    let mut seen = seen.lock().unwrap().split_off(0);
    seen.dedup();
    assert_eq!(seen, [ItemAdded { quantity: 2, unit }]);
    app.close().await.unwrap();
}

async fn an_event_that_does_not_decode_is_parked(store: Arc<Store>) {
    let view = View::new();
    let app = start(store.app(), view.board("", good)).await;
    let broken = recorded(OrderPlaced::TYPE_NAME, 1, "{\"order_id\":7}".into());
    place(&app, &["1"]).await;
    append(&app, "order-1", vec![broken]).await;

    let position = place(&app, &["3"]).await;
    caught_up(&store, &app, position).await;

    assert_eq!(view.rows(), ["1", "3"]);
    store.buried(&app, 1).await;
    app.close().await.unwrap();
}

async fn a_rebuild_takes_the_place_of_the_live_view(store: Arc<Store>) {
    let view = View::new();
    let before = start(store.app(), view.board("wrong-", good)).await;
    let position = place(&before, &["1", "2", "3"]).await;
    caught_up(&store, &before, position).await;
    assert_eq!(view.rows(), ["wrong-1", "wrong-2", "wrong-3"]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    if store.is_durable() {
        before.close().await.unwrap();
        let after = start(store.app(), view.board("right-", good).batch_size(2)).await;
        let note = Arc::clone(&seen);
        let rebuild = after
            .rebuild("board")
            .on_progress(move |p| note.lock().unwrap().push(p));
        let last = meanwhile(&store, PROMPT, rebuild.into_future())
            .await
            .unwrap();

        assert_eq!((last.handled, last.position), (3, Some(position)));
        assert_eq!(seen.lock().unwrap().first().unwrap().handled, 2);
        assert_eq!(view.rows(), ["right-1", "right-2", "right-3"]);
        let position = place(&after, &["4"]).await;
        caught_up(&store, &after, position).await;
        assert_eq!(view.rows(), ["right-1", "right-2", "right-3", "right-4"]);
        after.close().await.unwrap();
        return;
    }
    let rebuild = before.rebuild("board");
    meanwhile(&store, PROMPT, rebuild.into_future())
        .await
        .unwrap();
    let position = place(&before, &["4"]).await;
    caught_up(&store, &before, position).await;
    let rows = view.rows();
    assert_eq!(rows, ["wrong-1", "wrong-2", "wrong-3", "wrong-4"]);
    before.close().await.unwrap();
}

async fn a_rebuild_whose_switch_fails_leaves_the_live_view(store: Arc<Store>) {
    let view = View::new();
    let model = view
        .board("", good)
        .switch(|_| async { Err(HandlerError::text("no disk")) });
    let app = start(store.app(), model).await;
    let position = place(&app, &["1"]).await;
    caught_up(&store, &app, position).await;

    let error = meanwhile(&store, PROMPT, app.rebuild("board").into_future())
        .await
        .unwrap_err();

    assert_eq!(error.to_string(), "no disk");
    let state = app.projections().await.unwrap().remove(0);
    assert_eq!((state.rebuild, state.rebuilding), (Some(position), false));
    let position = place(&app, &["2"]).await;
    caught_up(&store, &app, position).await;
    assert_eq!(view.rows(), ["1", "2"]);
    app.close().await.unwrap();
}

async fn a_switch_that_leaves_the_checkpoint_behind_is_refused(store: Arc<Store>) {
    let view = View::new();
    let model = view.board("", good).switch(|_| async { Ok(()) });
    let app = start(store.app(), model).await;
    let position = place(&app, &["1"]).await;
    caught_up(&store, &app, position).await;

    let error = meanwhile(&store, PROMPT, app.rebuild("board").into_future())
        .await
        .unwrap_err();

    assert_eq!(error.code(), "ORK_BUS_INVALID_HANDLER");
    let position = place(&app, &["2"]).await;
    caught_up(&store, &app, position).await;
    assert_eq!(view.rows(), ["1", "2"]);
    app.close().await.unwrap();
}

async fn what_cannot_be_rebuilt_is_said_at_once(store: Arc<Store>) {
    let model = ReadModel::of_topics("index", ["orders.#"], |_, _| async { Ok(()) });
    let app = start(store.app(), model).await;

    let unknown = app.rebuild("nothing").await.unwrap_err();
    let no_switch = app.rebuild("index").await.unwrap_err();

    assert!(
        matches!(unknown, Error::Projection(ProjectionError::Unknown { .. })),
        "{unknown}"
    );
    assert!(
        matches!(
            no_switch,
            Error::Projection(ProjectionError::NoSwitch { .. })
        ),
        "{no_switch}"
    );
    app.close().await.unwrap();
}

async fn a_view_is_no_place_for_the_store_and_autocommit_no_transaction(store: Arc<Store>) {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let (noted, own) = (Arc::clone(&errors), store.file());
    let view = View::new();
    let model = ReadModel::of_topics("board", ["#"], move |_, checkpoint: Checkpoint| {
        noted
            .lock()
            .unwrap()
            .push(checkpoint.save_sqlite(&view.open()).unwrap_err());
        if let Some(own) = &own {
            let connection = Connection::open(own).unwrap();
            let tx = connection.unchecked_transaction().unwrap();
            noted
                .lock()
                .unwrap()
                .push(checkpoint.save_sqlite(&tx).unwrap_err());
        }
        async { Ok(()) }
    });
    let app = start(store.app(), model).await;

    let position = place(&app, &["1"]).await;
    caught_up(&store, &app, position).await;

    let errors = errors.lock().unwrap().split_off(0);
    assert!(
        matches!(errors[0], Error::App(AppError::NoTransaction { .. })),
        "{}",
        errors[0]
    );
    if let Some(error) = errors.get(1) {
        assert!(
            matches!(error, Error::App(AppError::StoreFile { .. })),
            "{error}"
        );
    }
    app.close().await.unwrap();
}

async fn one_process_keeps_a_view_and_another_follows(store: Arc<Store>) {
    let view = View::new();
    let first = start(store.app(), view.board("first-", good)).await;
    let position = place(&first, &["1"]).await;
    caught_up(&store, &first, position).await;
    if !store.is_durable() {
        return first.close().await.unwrap();
    }
    let second = start(store.app(), view.board("second-", good)).await;
    let position = place(&second, &["2"]).await;
    caught_up(&store, &second, position).await;
    assert_eq!(view.rows(), ["first-1", "first-2"]);

    first.close().await.unwrap();
    let position = place(&second, &["3"]).await;
    caught_up(&store, &second, position).await;

    assert_eq!(view.rows(), ["first-1", "first-2", "second-3"]);
    second.close().await.unwrap();
}

#[derive(Debug, Default)]
struct Spans(Mutex<Vec<String>>);

impl SpanSink for Spans {
    fn start(&self, name: &'static str, attributes: Vec<Attribute>) -> u64 {
        self.0
            .lock()
            .unwrap()
            .push(format!("{name} {attributes:?}"));
        0
    }

    fn end(&self, _: u64, error: Option<String>) {
        self.0.lock().unwrap().extend(error);
    }
}

async fn each_call_is_a_span(store: Arc<Store>) {
    let (spans, view) = (Arc::new(Spans::default()), View::new());
    let app = store.app().telemetry(Telemetry::to(spans.clone()));
    let model = view.board("", poisoned).poison(Poison::Skip);
    let app = start(app, model.retry(RetryPolicy::retries(0))).await;

    let position = place(&app, &["2"]).await;
    caught_up(&store, &app, position).await;

    let lines = spans.0.lock().unwrap().split_off(0);
    let span = format!(
        "orkestra.projection.batch [(\"orkestra.handler\", \"shop.board\"), \
         (\"orkestra.projection.events\", \"1\"), (\"orkestra.projection.position\", \"{position}\")]"
    );
    assert_eq!(lines, [&*span, "no such order"]);
    app.close().await.unwrap();
}

async fn a_parked_event_cannot_be_requeued(store: Arc<Store>) {
    let view = View::new();
    let model = view.board("", poisoned);
    let app = start(store.app(), model.retry(RetryPolicy::retries(0))).await;
    let position = place(&app, &["2"]).await;
    caught_up(&store, &app, position).await;
    let letters = app.dead_letters();
    let page = letters.list(DeadLetterFilter::default()).await.unwrap();

    let refused = letters.requeue(page.items[0].id).await.unwrap_err();

    assert!(refused.to_string().contains("rebuilt instead"), "{refused}");
    app.close().await.unwrap();
}

async fn names_and_policies_are_checked(store: Arc<Store>) {
    let named = |name: &str| {
        let model = ReadModel::of_topics(name, ["#"], |_, _| async { Ok(()) });
        store.app().projection(model).start()
    };

    for name in ["board_rebuild", "", "a b"] {
        let error = named(name).await.unwrap_err();
        assert_eq!(error.code(), "ORK_BUS_INVALID_HANDLER", "{name}");
    }
    let twice = ReadModel::of_topics("board", ["#"], |_, _| async { Ok(()) });
    let error = store
        .app()
        .projection(twice.clone())
        .projection(twice)
        .start()
        .await;
    assert_eq!(error.unwrap_err().code(), "ORK_BUS_DUPLICATE_HANDLER_NAME");
}

async fn waiting_for_a_view_that_does_not_come_ends(store: Arc<Store>) {
    let app = start(store.app(), View::new().board("", good)).await;

    let late = app.caught_up("board", Position(99), Duration::from_millis(50));
    let error = meanwhile(&store, PROMPT, late).await.unwrap_err();

    assert!(
        matches!(
            error,
            Error::Subscription(SubscriptionError::NotCaughtUp { .. })
        ),
        "{error}"
    );
    app.close().await.unwrap();
}

suite! {
    everywhere {
        a_view_commits_together_with_its_checkpoint,
        a_rebuild_takes_the_place_of_the_live_view,
    }
    in_process {
        e12_what_is_rolled_back_is_handed_over_again,
        e09_a_poison_event_is_parked_and_the_rest_goes_on,
        e09_a_poison_event_is_skipped,
        e09_a_poison_event_stops_it_with_the_reason,
        what_is_away_parks_nothing,
        what_could_not_be_prepared_is_read_again,
        a21_events_of_an_old_schema_are_upcast,
        an_event_that_does_not_decode_is_parked,
        a_rebuild_whose_switch_fails_leaves_the_live_view,
        a_switch_that_leaves_the_checkpoint_behind_is_refused,
        what_cannot_be_rebuilt_is_said_at_once,
        a_view_is_no_place_for_the_store_and_autocommit_no_transaction,
        one_process_keeps_a_view_and_another_follows,
        each_call_is_a_span,
        a_parked_event_cannot_be_requeued,
        names_and_policies_are_checked,
        waiting_for_a_view_that_does_not_come_ends,
    }
}
