//! `projector URL VIEW PLACE` and `rebuilder URL VIEW PLACE`: processes that keep a view, and build it anew. VIEW is `sqlite:FILE` or the URL of a
//! PostgreSQL database; PLACE is where it halts: `no`, `batch-` and a place of [`Board::write`], in the third batch, or `switch-` and one of
//! [`Board::switch`].

use std::{
    future::pending,
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use orkestra::{Checkpoint, Error, Orkestra, ReadModel, Recorded};

use crate::{
    board::Board,
    halt::Halt,
    report,
    work::{Happened, Report},
};

/// Keeps the view until it is killed.
pub(crate) async fn project(url: &str, view: &str, place: &str) -> Result<(), Error> {
    let _app = start(url, view, "", place).await?;
    pending().await
}

/// Builds the view anew.
pub(crate) async fn rebuild(url: &str, view: &str, place: &str) -> Result<(), Error> {
    let app = start(url, view, "_rebuild", place).await?;
    app.rebuild("view").await?;
    app.close().await
}

/// An app that keeps the view; `halting` is the suffix of the one in which it halts.
async fn start(
    url: &str,
    view: &str,
    halting: &'static str,
    place: &str,
) -> Result<Orkestra, Error> {
    let boards = [(); 3].map(|()| Board::at(view));
    let [written, prepared, switched] = boards;
    let part = |part| Halt::at(place.strip_prefix(part).unwrap_or("no"));
    let (in_batch, in_switch) = (part("batch-"), part("switch-"));
    let calls = Arc::new(AtomicU32::new(0));
    let model = ReadModel::new(
        "view",
        move |events: Vec<Recorded<Happened>>, checkpoint: Checkpoint| {
            let counts = checkpoint.suffix() == halting;
            let third = counts && calls.fetch_add(1, Ordering::SeqCst) == 2;
            let halt = if third {
                in_batch.clone()
            } else {
                Halt::at("no")
            };
            report(&Report::Began {
                number: events[0].event.number,
                pid: process::id(),
            });
            written.clone().write(events, checkpoint, halt)
        },
    )
    .prepare(move |checkpoint| prepared.clone().prepare(checkpoint.suffix()))
    .switch(move |checkpoint| switched.clone().switch(checkpoint, in_switch.clone()))
    .batch_size(10);
    let app = Orkestra::builder("scenario").store(url).projection(model);
    let app = app.start().await?;
    report(&Report::Ready { pid: process::id() });
    Ok(app)
}
