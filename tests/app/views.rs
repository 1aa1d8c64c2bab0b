//! Views in PostgreSQL: the checkpoint in the user's own transaction, directly and through a pooler in transaction mode.

use std::{sync::Arc, time::Duration};

use orkestra::{
    Checkpoint, HandlerError, ReadModel, Recorded,
    code::Coded,
    ports::{EventStore, ExpectedRevision, StreamName},
};
use orkestra_tests::postgres;
use tokio_postgres::{Client, NoTls};

use crate::{
    projections::{order, recorded},
    shop::{OrderPlaced, Store},
};

const MINUTE: Duration = Duration::from_secs(60);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Writes the orders of a batch; of a batch with the order 13 in it, it gives up after saving.
async fn write(
    url: &str,
    events: Vec<Recorded<OrderPlaced>>,
    checkpoint: &Checkpoint,
) -> Result<(), HandlerError> {
    let mut client = connect(url).await;
    let tx = client.transaction().await?;
    let insert = format!("INSERT INTO board{} VALUES ($1)", checkpoint.suffix());
    for Recorded { event, .. } in &events {
        tx.execute(&insert, &[&event.order_id]).await?;
    }
    checkpoint.save_postgres(&tx).await?;
    if events.iter().any(|e| e.event.order_id == "13") {
        return Err(HandlerError::text("unlucky"));
    }
    Ok(tx.commit().await?)
}

async fn prepare(url: &str, suffix: &str) -> Result<(), HandlerError> {
    let client = connect(url).await;
    if !suffix.is_empty() {
        let drop = format!("DROP TABLE IF EXISTS board{suffix}");
        client.batch_execute(&drop).await?;
    }
    let create = format!("CREATE TABLE IF NOT EXISTS board{suffix} (order_id text)");
    Ok(client.batch_execute(&create).await?)
}

async fn switch(url: &str, checkpoint: &Checkpoint) -> Result<(), HandlerError> {
    let mut client = connect(url).await;
    let tx = client.transaction().await?;
    let rename = "DROP TABLE board; ALTER TABLE board_rebuild RENAME TO board";
    tx.batch_execute(rename).await?;
    checkpoint.switch_postgres(&tx).await?;
    Ok(tx.commit().await?)
}

fn board(url: &str) -> ReadModel {
    let urls = [url, url, url].map(Arc::<str>::from);
    let [writing, preparing, switching] = urls;
    ReadModel::new(
        "board",
        move |events: Vec<Recorded<OrderPlaced>>, checkpoint: Checkpoint| {
            let url = Arc::clone(&writing);
            async move { write(&url, events, &checkpoint).await }
        },
    )
    .prepare(move |checkpoint| {
        let url = Arc::clone(&preparing);
        async move { prepare(&url, checkpoint.suffix()).await }
    })
    .switch(move |checkpoint| {
        let url = Arc::clone(&switching);
        async move { switch(&url, &checkpoint).await }
    })
}

async fn rows(url: &str, sql: &str) -> Vec<String> {
    let rows = connect(url).await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn a_view_in_postgres(store: Arc<Store>, url: String) {
    const ORDERS: &str = "SELECT order_id FROM board ORDER BY order_id::int";
    const CHECKPOINTS: &str =
        "SELECT concat_ws(' ', name, position) FROM orkestra.view_checkpoints ORDER BY name";
    // In real time: PostgreSQL waits for nobody's clock.
    let app = store
        .app()
        .clock(Arc::new(orkestra::clock::SystemClock::default()));
    let model = board(&url).batch_size(2);
    let model = model.retry(orkestra::retry::RetryPolicy::retries(0));
    let app = app.projection(model).start().await.unwrap();
    let place = async |numbers: &[u32]| {
        let events = numbers
            .iter()
            .map(|n| recorded(order(), 1, format!("{{\"order_id\":\"{n}\"}}")));
        let log: &Arc<dyn EventStore> = app.store().unwrap();
        let stream = StreamName::new("order-1").unwrap();
        let appended = log.append(stream, events.collect(), ExpectedRevision::Any);
        appended.await.unwrap().position.unwrap()
    };

    let position = place(&[1, 2, 13, 4, 5]).await;
    app.caught_up("board", position, MINUTE).await.unwrap();

    assert_eq!(rows(&url, ORDERS).await, ["1", "2", "4", "5"]);
    assert_eq!(
        rows(&url, CHECKPOINTS).await,
        [format!("shop.board {position}")]
    );
    let rebuilt = app.rebuild("board").await.unwrap();
    assert_eq!((rebuilt.handled, rebuilt.position), (5, Some(position)));
    assert_eq!(rows(&url, ORDERS).await, ["1", "2", "4", "5"]);
    assert_eq!(
        rows(&url, CHECKPOINTS).await,
        [format!("shop.board {position}")]
    );
    // The view is restored from a backup: it had one event less.
    let restore = "DELETE FROM board WHERE order_id = '5'; \
                   UPDATE orkestra.view_checkpoints SET position = position - 1";
    connect(&url).await.batch_execute(restore).await.unwrap();
    let position = place(&[6]).await;
    app.caught_up("board", position, MINUTE).await.unwrap();

    assert_eq!(rows(&url, ORDERS).await, ["1", "2", "4", "5", "6"]);
    // A token that is newer than any lease: another life of the state store.
    let older = "UPDATE orkestra.view_checkpoints SET token = 1000";
    connect(&url).await.batch_execute(older).await.unwrap();
    let position = place(&[7]).await;
    app.caught_up("board", position, MINUTE).await.unwrap();
    assert_eq!(rows(&url, ORDERS).await, ["1", "2", "4", "5", "6", "7"]);
    app.close().await.unwrap();
}

/// Two projections of one process make the schema and the table at once.
async fn two_views_begin_at_once(store: Arc<Store>, url: String) {
    let clock = Arc::new(orkestra::clock::SystemClock::default());
    let mut app = store.app().clock(clock);
    for name in ["a", "b", "c", "d"] {
        let url = Arc::<str>::from(&*url);
        app = app.projection(ReadModel::of_topics(name, ["#"], move |_, checkpoint| {
            let url = Arc::clone(&url);
            async move {
                let mut client = connect(&url).await;
                let tx = client.transaction().await?;
                checkpoint.save_postgres(&tx).await?;
                Ok(tx.commit().await?)
            }
        }));
    }
    let app = app.start().await.unwrap();
    let event = recorded(order(), 1, "{\"order_id\":\"1\"}".into());
    let log: &Arc<dyn EventStore> = app.store().unwrap();
    let stream = StreamName::new("order-1").unwrap();
    let appended = log.append(stream, vec![event], ExpectedRevision::Any);
    let position = appended.await.unwrap().position.unwrap();

    for name in ["a", "b", "c", "d"] {
        app.caught_up(name, position, MINUTE).await.unwrap();
    }

    let count = "SELECT count(*)::text FROM orkestra.view_checkpoints";
    assert_eq!(rows(&url, count).await, ["4"]);
    let errors = app.projections().await.unwrap();
    assert!(
        errors.iter().all(|state| state.error.is_none()),
        "{errors:?}"
    );
    app.close().await.unwrap();
}

/// A server that goes away in the middle parks nothing.
async fn the_views_server_goes_away(store: Arc<Store>, url: String) {
    let clock = Arc::new(orkestra::clock::SystemClock::default());
    let failed = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (server, count) = (postgres::shared().unwrap(), Arc::clone(&failed));
    let (view, ended) = (Arc::<str>::from(&*url), Arc::<str>::from(&*url));
    let model = ReadModel::of_topics("board", ["#"], move |_, checkpoint| {
        let (url, server) = (Arc::clone(&view), server.clone());
        let first = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3;
        let ended = Arc::clone(&ended);
        async move {
            let mut client = connect(&url).await;
            let tx = client.transaction().await?;
            checkpoint.save_postgres(&tx).await?;
            if first {
                server.terminate(&ended, "%");
            }
            Ok(tx.commit().await?)
        }
    });
    let model = model.retry(orkestra::retry::RetryPolicy::retries(0));
    let app = store
        .app()
        .clock(clock)
        .projection(model)
        .start()
        .await
        .unwrap();
    let event = recorded(order(), 1, "{\"order_id\":\"1\"}".into());
    let log: &Arc<dyn EventStore> = app.store().unwrap();
    let stream = StreamName::new("order-1").unwrap();
    let appended = log.append(stream, vec![event], ExpectedRevision::Any);
    let position = appended.await.unwrap().position.unwrap();

    app.caught_up("board", position, MINUTE).await.unwrap();

    assert!(failed.load(std::sync::atomic::Ordering::SeqCst) > 3);
    assert_eq!(store.letters(&app).await, 0);
    let error = app.caught_up("board", position, MINUTE).await.err();
    assert_eq!(error.map(|e| e.code()), None);
    app.close().await.unwrap();
}

fn with_postgres<F: Future<Output = ()>>(
    name: &str,
    pooled: bool,
    case: impl FnOnce(Arc<Store>, String) -> F,
) {
    // Without a server the case is skipped, and that was said.
    let Some(server) = postgres::shared() else {
        return;
    };
    let mut url = server.database(name);
    if pooled {
        let Some(through) = server.through_pooler(&url) else {
            return;
        };
        url = through;
    }
    crate::shop::run(Some(Store::memory()), |store| case(store, url));
}

#[test]
fn the_checkpoint_commits_with_the_view() {
    with_postgres("views", false, a_view_in_postgres);
}

#[test]
fn the_checkpoint_commits_with_the_view_through_a_pooler() {
    with_postgres("views_pooled", true, a_view_in_postgres);
}

#[test]
fn projections_that_begin_at_once_make_one_table() {
    with_postgres("views_at_once", false, two_views_begin_at_once);
}

#[test]
fn a_server_that_ends_connections_parks_nothing() {
    with_postgres("views_away", false, the_views_server_goes_away);
}
