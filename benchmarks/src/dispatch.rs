//! ns per command sent to one handler, and per event sent to five, in one process.

use orkestra::{Command, Context, Event, Message, Orkestra};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::{Figure, Outcome, timing::median_per_second};

const CALLS: usize = 20_000;
const REPEATS: usize = 9;

#[derive(Clone, Serialize, Deserialize)]
struct PlaceOrder {
    order_id: String,
    quantity: u32,
}

impl Message for PlaceOrder {
    const TYPE_NAME: &'static str = "Bench.PlaceOrder";
}

impl Command for PlaceOrder {
    type Output = ();
}

#[derive(Clone, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: String,
    quantity: u32,
}

impl Message for OrderPlaced {
    const TYPE_NAME: &'static str = "Bench.OrderPlaced";
}

impl Event for OrderPlaced {}

/// A command to its handler.
pub(crate) fn command() -> Outcome {
    let runtime = runtime()?;
    let app = runtime.block_on(
        Orkestra::builder("bench")
            .store("memory:")
            .command_handler(|_: PlaceOrder, _: Context| async { Ok(()) })
            .start(),
    )?;
    let rate = median_per_second(REPEATS, CALLS, || {
        runtime.block_on(async {
            for _ in 0..CALLS {
                let (order_id, quantity) = ("order-1".to_owned(), 3);
                app.dispatch(PlaceOrder { order_id, quantity }).await?;
            }
            Ok::<_, orkestra::Error>(())
        })
    })?;
    runtime.block_on(app.close())?;
    Ok(Figure::nanoseconds(rate))
}

/// An event to five handlers.
pub(crate) fn event() -> Outcome {
    let runtime = runtime()?;
    let mut builder = Orkestra::builder("bench").store("memory:");
    for number in 0..5 {
        let handler = |_: OrderPlaced, _: Context| async { Ok(()) };
        builder = builder.event_handler(format!("handler_{number}"), handler);
    }
    let app = runtime.block_on(builder.start())?;
    let rate = median_per_second(REPEATS, CALLS, || {
        runtime.block_on(async {
            for _ in 0..CALLS {
                let (order_id, quantity) = ("order-1".to_owned(), 3);
                app.publish(OrderPlaced { order_id, quantity }).await?;
            }
            Ok::<_, orkestra::Error>(())
        })
    })?;
    runtime.block_on(app.close())?;
    Ok(Figure::nanoseconds(rate))
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
