//! The spans of DESIGN section 10, at their call sites.

use std::sync::{Arc, Mutex};

use orkestra::{
    Context, HandlerError,
    telemetry::{Attribute, SpanSink, Telemetry},
};

use crate::{
    shop::{AddItem, Cart, OrderPlaced, PlaceOrder, Store},
    suite,
};

#[derive(Debug, Default)]
struct Spans(Mutex<Vec<String>>);

impl SpanSink for Spans {
    fn start(&self, name: &'static str, attributes: Vec<Attribute>) -> u64 {
        let mut lines = self.0.lock().unwrap();
        lines.push(format!("{name}({})", attributes.len()));
        lines.len() as u64
    }

    fn end(&self, _: u64, error: Option<String>) {
        let line = error.map_or_else(|| "end".to_owned(), |error| format!("failed: {error}"));
        self.0.lock().unwrap().push(line);
    }
}

async fn a_command_that_publishes_makes_nested_spans(store: Arc<Store>) {
    let spans = Arc::new(Spans::default());
    let app = store
        .app()
        .telemetry(Telemetry::to(spans.clone()))
        .command_handler(|_: PlaceOrder, context: Context| async move {
            let order_id = "o-1".to_owned();
            context.app().publish(OrderPlaced { order_id }).await?;
            Err(HandlerError::text("lost"))
        })
        .event_handler("mail", |_: OrderPlaced, _: Context| async { Ok(()) })
        .start()
        .await
        .unwrap();

    let product_id = "sku_42".to_owned();
    app.dispatch(PlaceOrder { product_id }).await.unwrap_err();

    assert_eq!(
        *spans.0.lock().unwrap(),
        [
            "orkestra.command.dispatch(3)",
            "orkestra.command.handle(4)",
            "orkestra.event.publish(3)",
            "orkestra.event.handle(4)",
            "end",
            "end",
            "failed: lost",
            "failed: lost",
        ]
    );
}

async fn an_aggregate_shows_its_steps(store: Arc<Store>) {
    let spans = Arc::new(Spans::default());
    let app = store.app().telemetry(Telemetry::to(spans.clone()));
    let app = app.aggregate::<Cart>().start().await.unwrap();

    let cart = "7".to_owned();
    app.execute::<Cart>(AddItem { cart, quantity: 1 })
        .await
        .unwrap();

    let names: Vec<String> = {
        let lines = spans.0.lock().unwrap();
        lines.iter().filter(|l| *l != "end").cloned().collect()
    };
    assert_eq!(
        names,
        [
            "orkestra.aggregate.execute(1)",
            "orkestra.aggregate.load(0)",
            "orkestra.aggregate.fold(0)",
            "orkestra.aggregate.decide(0)",
            "orkestra.aggregate.append(0)",
        ]
    );
}

async fn a_broker_is_seen_between_sending_and_handling(store: Arc<Store>) {
    let spans = Arc::new(Spans::default());
    let app = store
        .app()
        .telemetry(Telemetry::to(spans.clone()))
        .command_handler(|_: PlaceOrder, _: Context| async move { Ok(String::new()) })
        .start()
        .await
        .unwrap();

    let product_id = "sku_42".to_owned();
    app.dispatch(PlaceOrder { product_id }).await.unwrap();
    app.close().await.unwrap();

    let lines = spans.0.lock().unwrap();
    let (ends, begun): (Vec<_>, Vec<_>) = lines.iter().partition(|line| *line == "end");
    assert_eq!(
        begun,
        [
            "orkestra.command.dispatch(3)",
            "orkestra.rabbitmq.publish(5)",
            "orkestra.rabbitmq.consume(5)",
            "orkestra.command.handle(4)",
        ]
    );
    assert_eq!(ends.len(), 4);
}

suite! {
    in_process {
        a_command_that_publishes_makes_nested_spans,
        an_aggregate_shows_its_steps,
    }
    over_a_broker {
        a_broker_is_seen_between_sending_and_handling,
    }
}
