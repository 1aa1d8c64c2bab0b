//! Orders of a small shop: a command with a result, a refusal, an aggregate, a dead letter, and what the store holds.
//!
//! The same program is in `examples/python` and `examples/node`; all three print `examples/quickstart.txt`.
#![expect(clippy::print_stdout, reason = "a program that shows something")]

mod messages;
mod stock;

use std::sync::atomic::{AtomicU32, Ordering};

use messages::{
    OrderPacked, OrderPlaced, PlaceOrder, ReceiveStock, ReserveStock, StockEvent, StockReceived,
    StockReserved,
};
use orkestra::{
    Context, Error, EventSet, HandlerError, Orkestra, Reject,
    ports::{BusError, DeadLetter, ReadStream, StreamName},
    retry::RetryPolicy,
};
use stock::Stock;

/// An id of our own: the same command again is the same command, whoever delivers it.
const COMMAND_ID: &str = "0199aa00-0000-7000-8000-000000000001";

async fn place_order(command: PlaceOrder, context: Context) -> Result<String, HandlerError> {
    if command.quantity < 1 {
        return Err(Reject::new("at least one must be ordered").into());
    }
    let order_id = "o-1".to_owned();
    let event = OrderPlaced {
        order_id: order_id.clone(),
        product_id: command.product_id,
        quantity: command.quantity,
    };
    context.app().publish(event).await?;
    Ok(order_id)
}

async fn send_confirmation(event: OrderPlaced, context: Context) -> Result<(), HandlerError> {
    let metadata = context.metadata();
    let cause = metadata.causation_id.as_ref().map(ToString::to_string);
    println!(
        "send_confirmation: order {}, {} x {}",
        event.order_id, event.quantity, event.product_id
    );
    println!(
        "  actor {} {}, source {}, caused by the command: {}",
        metadata.actor_type,
        metadata.actor_id.as_deref().unwrap_or("nobody"),
        metadata.source.as_deref().unwrap_or("unknown"),
        yes(cause.as_deref() == Some(COMMAND_ID)),
    );
    Ok(())
}

async fn print_label(_: OrderPacked, _: Context) -> Result<(), HandlerError> {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed) + 1;
    println!("print_label: attempt {attempt}");
    Err(HandlerError::text("the printer is offline"))
}

fn show_dead_letter(letter: &DeadLetter) {
    println!(
        "dead letter: {} gave up {} after {} attempts",
        letter.handler, letter.topic, letter.attempts
    );
    let error = letter.errors.first().map_or("", |error| &error.message);
    println!("  {}: {error}", letter.reason.as_str());
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let app = Orkestra::builder("shop")
        .store("memory:")
        .command_handler(place_order)
        .event_handler("send_confirmation", send_confirmation)
        .event_handler("print_label", print_label)
        .retry(RetryPolicy {
            max_retries: Some(2),
            initial: 0.001,
            ..RetryPolicy::default()
        })
        .aggregate::<Stock>()
        .on_dead_letter(show_dead_letter)
        .start()
        .await?;

    println!("-- a command, its event and its result");
    let order_id = app
        .dispatch(order("sku_42", 3))
        .id(COMMAND_ID)
        .actor_type("user")
        .actor_id("user_123")
        .source("web")
        .await?;
    println!("result: order {order_id}");

    println!("\n-- a refusal");
    show_refusal(app.dispatch(order("sku_42", 0)).await)?;

    println!("\n-- an aggregate");
    let product_id = "sku_42".to_owned();
    let receive = ReceiveStock {
        product_id: product_id.clone(),
        quantity: 10,
    };
    let answer = app.dispatch(receive).await?;
    println!(
        "received 10: {} is at {}",
        answer.stream,
        at(answer.revision)
    );
    let reserve = |order_id: &str, quantity| ReserveStock {
        product_id: product_id.clone(),
        order_id: order_id.into(),
        quantity,
    };
    let outcome = app.execute::<Stock>(reserve("o-1", 7)).await?;
    println!(
        "reserved 7 for o-1: {} is at {}",
        outcome.stream,
        at(outcome.revision)
    );
    show_refusal(app.dispatch(reserve("o-2", 5)).await)?;

    println!("\n-- a dead letter");
    let packed = OrderPacked {
        order_id: order_id.clone(),
    };
    app.publish(packed).await?.settled().await;

    println!("\n-- the store");
    let stream = StreamName::new("stock-sku_42")?;
    let page = app
        .store()?
        .read_stream(stream, ReadStream::default())
        .await?;
    for recorded in page.events {
        print!(
            "{} {} {}, ",
            recorded.stream, recorded.revision, recorded.type_name
        );
        match StockEvent::from_json(&recorded.type_name, recorded.version, &recorded.data)? {
            Some(StockEvent::StockReceived(StockReceived { quantity })) => {
                println!("{quantity} pieces");
            }
            Some(StockEvent::StockReserved(StockReserved { order_id, quantity })) => {
                println!("{quantity} pieces, for {order_id}");
            }
            None => println!("of another program"),
        }
    }
    app.close().await
}

fn order(product_id: &str, quantity: i64) -> PlaceOrder {
    PlaceOrder {
        product_id: product_id.into(),
        quantity,
    }
}

fn show_refusal<T>(answer: Result<T, Error>) -> Result<(), Error> {
    match answer {
        Err(Error::Bus(BusError::Rejected { reason, .. })) => println!("rejected: {reason}"),
        Err(error) => return Err(error),
        Ok(_) => println!("taken"),
    }
    Ok(())
}

fn at(revision: Option<u64>) -> String {
    revision.map_or_else(|| "no revision".into(), |n| format!("revision {n}"))
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}
