//! The store through its port: appends that share transactions, and pages of the log.

use std::{error::Error, hint::black_box};

use futures_executor::block_on;
use futures_util::{StreamExt, stream::FuturesUnordered};
use orkestra::{
    Plan, Services, Settings,
    ports::{EventStore, ExpectedRevision, NewEvent, ReadAll, StoreError, StreamName},
};

use crate::{
    Figure, Outcome, postgres,
    shop::{Order, TYPE_NAME, orders},
    timing::{APPENDERS, APPENDS, LOG, POSTGRES_APPENDS, median_per_second, per_second, work_file},
};

/// How many events a page of the log has.
const PAGE: usize = 1_000;

/// Events per second of 100 appenders that each wait for one event before the next.
pub(crate) fn append(kind: &str) -> Outcome {
    let services = open(kind)?;
    let store = &*services.events;
    let streams: Vec<StreamName> = (0..APPENDERS).map(stream).collect::<Result<_, _>>()?;
    let rate = if kind == "postgres" {
        let mut first = orders(POSTGRES_APPENDS);
        let rest = first.split_off(POSTGRES_APPENDS / 10);
        append_all(store, streams.clone(), first)?;
        append_all(store, streams, rest)?
    } else {
        append_all(store, streams, orders(APPENDS))?
    };
    block_on(services.close())?;
    Ok(Figure::per_second(rate))
}

/// Appends `orders` one by one, with an appender for each stream that waits for one before the next; returns events per second.
pub(crate) fn append_all(
    store: &dyn EventStore,
    streams: Vec<StreamName>,
    orders: Vec<Order>,
) -> Result<f64, StoreError> {
    let count = orders.len();
    let mut shares: Vec<Vec<NewEvent>> = vec![Vec::new(); streams.len()];
    for (number, event) in orders.into_iter().map(new_event).enumerate() {
        shares[number % streams.len()].push(event);
    }
    let (rate, result) = per_second(count, || {
        block_on(async {
            let mut working: FuturesUnordered<_> = streams
                .into_iter()
                .zip(shares)
                .map(|(stream, share)| appender(store, stream, share))
                .collect();
            while let Some(done) = working.next().await {
                done?;
            }
            Ok::<_, StoreError>(())
        })
    });
    result.map(|()| rate)
}

/// Events per second of reading every page of the log.
pub(crate) fn read_log(kind: &str) -> Outcome {
    let (events, streams) = LOG;
    let services = open(kind)?;
    let store = &services.events;
    let mut rest = orders(events).into_iter().map(new_event);
    for number in 0..streams {
        let batch: Vec<NewEvent> = rest.by_ref().take(events / streams as usize).collect();
        block_on(store.append(stream(number as usize)?, batch, ExpectedRevision::Any))?;
    }
    let rate = median_per_second(5, events, || {
        let read = block_on(read_pages(&**store))?;
        if read == events {
            Ok(())
        } else {
            Err::<_, Box<dyn Error>>(format!("{read} of {events} events were read").into())
        }
    })?;
    block_on(services.close())?;
    Ok(Figure::per_second(rate))
}

fn open(kind: &str) -> Result<Services, Box<dyn Error>> {
    let mut settings = Settings::default();
    settings.store = Some(match kind {
        "memory" => "memory:".to_owned(),
        "sqlite" => format!("sqlite:{}", work_file("ours.db").display()),
        "postgres" => postgres::url()?,
        _ => return Err(format!("no store is called `{kind}`").into()),
    });
    Ok(Plan::new(settings)?.open("bench")?)
}

async fn appender(
    store: &dyn EventStore,
    stream: StreamName,
    events: Vec<NewEvent>,
) -> Result<(), StoreError> {
    for event in events {
        store
            .append(stream.clone(), vec![event], ExpectedRevision::Any)
            .await?;
    }
    Ok(())
}

async fn read_pages(store: &dyn EventStore) -> Result<usize, StoreError> {
    let mut count = 0;
    let mut after = None;
    loop {
        let page = store.read_all(ReadAll::after(after).limit(PAGE)).await?;
        count += page.events.len();
        after = page.position.or(after);
        let end = page.end;
        black_box(page);
        if end {
            return Ok(count);
        }
    }
}

fn stream(number: usize) -> Result<StreamName, StoreError> {
    StreamName::new(&format!("order-{number}"))
}

pub(crate) fn new_event(order: Order) -> NewEvent {
    NewEvent {
        id: order.id,
        type_name: TYPE_NAME.into(),
        version: 1,
        data: order.data.into(),
        metadata: order.metadata.into(),
        occurred_at: order.occurred_at,
    }
}
