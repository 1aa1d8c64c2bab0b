//! ns that one span costs when nobody listens.

use std::{convert::Infallible, hint::black_box};

use orkestra::telemetry::{Telemetry, names};

use crate::{Figure, Outcome, timing::median_per_second};

const CALLS: usize = 1_000_000;

/// A span with one attribute, begun and ended.
pub(crate) fn span() -> Outcome {
    let telemetry = Telemetry::off();
    let handler = black_box(String::from("send_confirmation"));
    let rate = median_per_second(9, CALLS, || {
        for _ in 0..CALLS {
            let attributes = || vec![(names::HANDLER, handler.clone())];
            drop(black_box(
                black_box(&telemetry).span(names::EVENT_HANDLE, attributes),
            ));
        }
        Ok::<_, Infallible>(())
    })?;
    Ok(Figure::nanoseconds(rate))
}

/// The loop around it.
pub(crate) fn empty() -> Outcome {
    let telemetry = Telemetry::off();
    let rate = median_per_second(9, CALLS, || {
        for _ in 0..CALLS {
            black_box(black_box(&telemetry));
        }
        Ok::<_, Infallible>(())
    })?;
    Ok(Figure::nanoseconds(rate))
}
