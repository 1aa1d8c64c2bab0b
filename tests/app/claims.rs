//! Messages and records in the user's own transaction.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use orkestra::{Context, HandlerError, Orkestra, code::Coded, testing::samples::id};
use orkestra_tests::postgres;
use tokio_postgres::{Client, NoTls};

use crate::{
    outbox::left,
    shop::{OrderPlaced, Store, until},
};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn placed(order_id: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: order_id.into(),
    }
}

/// Runs `case` with an app's builder on a new database that has a table `orders`.
fn run<F: Future<Output = ()>>(case: impl FnOnce(Arc<Store>, orkestra::Builder, String) -> F) {
    let Some(server) = postgres::shared() else {
        return;
    };
    let url = server.database("claims");
    server.sql(&url, "CREATE TABLE public.orders (id text)");
    crate::shop::run(Some(Store::memory()), |store| {
        let app = Orkestra::builder("shop").app_prefix("Shop").store(&url);
        case(store, app, url)
    });
}

#[test]
fn a_message_leaves_when_the_users_transaction_commits_and_not_otherwise() {
    run(|store, app, url| async move {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let app = app
            .event_handler("mail", {
                let seen = Arc::clone(&seen);
                move |event: OrderPlaced, context: Context| {
                    let actor = context.metadata().actor_id.clone().unwrap_or_default();
                    seen.lock()
                        .unwrap()
                        .push(format!("{actor} {}", event.order_id));
                    async { Ok(()) }
                }
            })
            .start()
            .await
            .unwrap();
        let mut client = connect(&url).await;

        let tx = client.transaction().await.unwrap();
        let adding = app.outbox().add_event(&placed("lost"));
        adding.within(&tx).await.unwrap();
        tx.rollback().await.unwrap();
        let tx = client.transaction().await.unwrap();
        tx.execute("INSERT INTO public.orders VALUES ('o-1')", &[])
            .await
            .unwrap();
        for _ in 0..2 {
            let adding = app.outbox().add_event(&placed("o-1")).id(id(1).to_string());
            adding.actor_id("ann").within(&tx).await.unwrap();
        }
        assert!(seen.lock().unwrap().is_empty());
        tx.commit().await.unwrap();

        until(|| *seen.lock().unwrap() == ["ann o-1"]).await;
        left(&store, &app).await;
        assert_eq!(seen.lock().unwrap().len(), 1);
        app.close().await.unwrap();
    });
}

#[test]
fn a_claim_commits_with_what_the_handler_writes() {
    run(|store, app, url| async move {
        let calls = Arc::new(AtomicU32::new(0));
        let app = app
            .event_handler("stock", {
                let (calls, url) = (Arc::clone(&calls), url.clone());
                move |event: OrderPlaced, context: Context| {
                    let (url, call) = (url.clone(), calls.fetch_add(1, Ordering::SeqCst));
                    async move {
                        let mut client = connect(&url).await;
                        let tx = client.transaction().await?;
                        if !context.claim_postgres(&tx).await? {
                            return Ok(());
                        }
                        tx.execute("INSERT INTO public.orders VALUES ($1)", &[&event.order_id])
                            .await?;
                        if call == 0 {
                            return Err(HandlerError::text("not yet"));
                        }
                        Ok(tx.commit().await?)
                    }
                }
            })
            .start()
            .await
            .unwrap();

        // Without the option inbox the handler is called each time, and claims.
        for n in 1..=2 {
            let adding = app.outbox().add_event(&placed("o-1")).id(id(1).to_string());
            adding.await.unwrap();
            until(|| calls.load(Ordering::SeqCst) == n + 1).await;
            left(&store, &app).await;
        }

        let client = connect(&url).await;
        let rows = client
            .query("SELECT id FROM public.orders", &[])
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
        let inbox = &app.services().inbox;
        assert!(
            inbox
                .find("shop.stock".into(), id(1))
                .await
                .unwrap()
                .is_some()
        );
        app.close().await.unwrap();
    });
}

#[test]
fn a_claim_in_a_file_of_the_users_own_commits_with_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute_batch("CREATE TABLE orders (id TEXT)")
        .unwrap();
    crate::shop::run(Some(Store::memory()), |store| async move {
        let calls = Arc::new(AtomicU32::new(0));
        let app = store
            .app()
            .event_handler("stock", {
                let (calls, file) = (Arc::clone(&calls), file.clone());
                move |event: OrderPlaced, context: Context| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    let work = || -> Result<(), HandlerError> {
                        let mut connection = rusqlite::Connection::open(&file)?;
                        let refused = context.claim_sqlite(&connection).unwrap_err();
                        assert_eq!(refused.code(), "ORK_APP_NO_TRANSACTION");
                        let tx = connection.transaction()?;
                        if context.claim_sqlite(&tx)? {
                            tx.execute("INSERT INTO orders VALUES (?1)", [&event.order_id])?;
                        }
                        Ok(tx.commit()?)
                    };
                    let done = work();
                    async move { done }
                }
            })
            .start()
            .await
            .unwrap();

        for n in 1..=2 {
            let adding = app.outbox().add_event(&placed("o-1")).id(id(1).to_string());
            adding.await.unwrap();
            until(|| calls.load(Ordering::SeqCst) == n).await;
            left(&store, &app).await;
        }

        let count = "SELECT count(*) FROM orders";
        let rows: u32 = connection.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
        app.close().await.unwrap();
    });
}

#[test]
fn the_file_of_the_apps_own_store_is_no_place_for_a_claim() {
    crate::shop::run(Some(Store::sqlite()), |store| async move {
        let file = store.file().unwrap();
        let refused: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let app = store
            .app()
            .event_handler("stock", {
                let refused = Arc::clone(&refused);
                move |_: OrderPlaced, context: Context| {
                    let mut connection = rusqlite::Connection::open(&file).unwrap();
                    let tx = connection.transaction().unwrap();
                    let error = context.claim_sqlite(&tx).unwrap_err();
                    refused.lock().unwrap().push(error.code());
                    async { Ok(()) }
                }
            })
            .start()
            .await
            .unwrap();

        app.publish(placed("o-1")).await.unwrap();

        assert_eq!(*refused.lock().unwrap(), ["ORK_APP_STORE_FILE"]);
        app.close().await.unwrap();
    });
}
