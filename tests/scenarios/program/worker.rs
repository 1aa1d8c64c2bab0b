//! `worker URL`: a consumer of the broker.

use std::{process, time::Duration};

use orkestra::{Context, Error, HandlerError, Orkestra};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    report,
    work::{Act, Do, Report},
};

/// How long a handler may take; `Act::Take` stays below, `Act::Hang` does not.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Handles commands from the broker at `url` until SIGTERM.
pub(crate) async fn work(url: &str) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let app = Orkestra::builder("scenario")
        .bus(url)
        .store("memory:")
        .command_handler(handle)
        .timeout(TIMEOUT)
        .on_dead_letter(|letter| {
            report(&Report::Dead {
                number: serde_json::from_slice::<serde_json::Value>(&letter.body)
                    .ok()
                    .and_then(|body| body["params"]["number"].as_u64()),
                reason: letter.reason.as_str().into(),
            });
        })
        .start()
        .await?;
    report(&Report::Ready { pid: process::id() });
    tokio::select! {
        _ = terminate.recv() => {}
        () = report_health(&app) => {}
    }
    app.close().await?;
    report(&Report::Closed { pid: process::id() });
    Ok(())
}

/// Reports how the bus is each time that it changes.
async fn report_health(app: &Orkestra) {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    let mut last = None;
    loop {
        every.tick().await;
        let bus = app.health().await.bus.unwrap();
        let now = Report::Health {
            consuming: bus.consumers.iter().all(|consumer| consumer.consuming),
            blocked: bus.blocked.is_some(),
        };
        if last.as_ref() != Some(&now) {
            report(&now);
            last = Some(now);
        }
    }
}

async fn handle(work: Do, _: Context) -> Result<(), HandlerError> {
    let (number, pid) = (work.number, process::id());
    report(&Report::Began { number, pid });
    match work.act {
        Act::Succeed => {}
        Act::Take(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        Act::Hang => std::future::pending().await,
        Act::Abort => process::abort(),
    }
    report(&Report::Handled { number, pid });
    Ok(())
}
