//! `relay BUS STORE`, `consumer BUS STORE`: processes of a service. Both relay the store's log to the broker, the consumer handles its events.
//! Each line of standard input, `append FROM TO` or `outbox FROM TO`, has it append the events of those numbers, the last not included, or
//! put them into the outbox. Into the outbox `hold FROM TO` puts events that are handled once the line `go on` has come.

use std::{io::stdin, process};

use orkestra::{
    Builder, Error, Orkestra,
    clock::{Clock, SystemClock},
    ports::ExpectedRevision,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

use crate::{
    report,
    work::{Happened, READER, Report},
};

/// What held events wait for.
static GO_ON: Semaphore = Semaphore::const_new(0);

/// An app that relays its log.
pub(crate) fn builder(bus: &str, store: &str) -> Builder {
    Orkestra::builder("scenario")
        .app_prefix("Scenario")
        .bus(bus)
        .store(store)
}

/// One that handles events, too.
pub(crate) fn handling(builder: Builder) -> Builder {
    builder.event_handler(READER, |happened: Happened, _| async move {
        let (number, pid) = (happened.number, process::id());
        if happened.hold {
            report(&Report::Began { number, pid });
            let _gone_on = GO_ON.acquire().await;
        }
        report(&Report::Handled { number, pid });
        Ok(())
    })
}

/// Runs it until SIGTERM.
pub(crate) async fn serve(builder: Builder) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let app = builder.start().await?;
    report(&Report::Ready { pid: process::id() });
    tokio::select! {
        _ = terminate.recv() => {}
        appended = append(&app) => appended?,
    }
    app.close().await?;
    report(&Report::Closed { pid: process::id() });
    Ok(())
}

async fn append(app: &Orkestra) -> Result<(), Error> {
    let clock = SystemClock::default();
    loop {
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            stdin().read_line(&mut line).map(|_| line)
        });
        let line = line.await.unwrap().unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        if words == ["go", "on"] {
            GO_ON.add_permits(1);
            continue;
        }
        let [way, from, to] = words[..] else {
            return std::future::pending().await;
        };
        let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
        for number in from..to {
            let hold = way == "hold";
            let happened = Happened { number, hold };
            if hold || way == "outbox" {
                app.outbox().add_event(&happened).await?;
            } else {
                let batch = vec![happened.event(clock.now())];
                app.store()?
                    .append(happened.stream(), batch, ExpectedRevision::Any)
                    .await?;
            }
        }
        report(&Report::Appended { to });
    }
}
