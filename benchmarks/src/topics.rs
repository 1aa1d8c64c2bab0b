//! ns per topic made, and per pattern match.

use std::hint::black_box;

use orkestra::topic::{Pattern, topic_for};

use crate::{Figure, Outcome, timing::median_per_second};

const CALLS: usize = 200_000;

pub(crate) fn topic() -> Outcome {
    let rate = median_per_second(9, CALLS, || {
        for _ in 0..CALLS {
            black_box(topic_for(
                black_box("MyApp.Orders.Commands.PlaceOrder"),
                black_box("MyApp"),
            )?);
        }
        Ok::<_, orkestra::message::MessageError>(())
    })?;
    Ok(Figure::nanoseconds(rate))
}

pub(crate) fn pattern() -> Outcome {
    let pattern = Pattern::new("orders.*.#")?;
    let rate = median_per_second(9, CALLS, || {
        for _ in 0..CALLS {
            black_box(pattern.matches(black_box("orders.events.order_placed")));
        }
        Ok::<_, std::convert::Infallible>(())
    })?;
    Ok(Figure::nanoseconds(rate))
}
