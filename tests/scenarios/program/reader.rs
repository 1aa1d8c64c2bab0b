//! `reader URL`: one of the processes that read the log under one name.

use std::{io::stdin, time::Duration};

use orkestra::{
    Error, Orkestra, code::Coded, ports::StoreError, subscription::SubscriptionOptions,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    report,
    work::{Happened, READER, Report},
};

/// Reads and acknowledges, batch by batch, until SIGTERM.
pub(crate) async fn read(url: &str) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let app = Orkestra::builder("scenario").store(url).start().await?;
    report(&Report::Ready {
        pid: std::process::id(),
    });
    tokio::select! {
        _ = terminate.recv() => {}
        read = follow(&app) => read?,
    }
    app.close().await?;
    report(&Report::Closed {
        pid: std::process::id(),
    });
    Ok(())
}

async fn follow(app: &Orkestra) -> Result<(), Error> {
    let options = SubscriptionOptions::default().batch_size(10);
    let mut subscription = app.subscribe(Some(READER), options)?;
    loop {
        let batch = match subscription.next().await {
            Ok(batch) => batch,
            Err(StoreError::Closed {}) => return Ok(()),
            Err(error) => {
                report(&Report::Trouble {
                    code: error.code().into(),
                });
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        for event in &batch.events {
            let happened: Happened = serde_json::from_slice(&event.data).unwrap();
            report(&Report::Got {
                number: happened.number,
                position: event.position.0,
            });
            if happened.hold {
                tokio::task::spawn_blocking(|| stdin().read_line(&mut String::new()))
                    .await
                    .unwrap()
                    .unwrap();
            }
        }
        let position = batch.position.unwrap().0;
        report(&match subscription.ack(batch.position).await {
            Ok(()) => Report::Saved { position },
            Err(error) => Report::Refused {
                position,
                code: error.code().into(),
            },
        });
    }
}
