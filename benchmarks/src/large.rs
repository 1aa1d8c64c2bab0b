//! A log of 10 million events beside one of 100,000: whether appends, loads and asking for the head get slower. Both are on the same
//! server, or on the same disk, and are measured in turn.

use std::error::Error;

use futures_executor::block_on;
use orkestra::{
    Plan, Services, Settings,
    ports::{ReadStream, StreamName},
};
use rusqlite::Connection;

use crate::{
    Figure, Outcome,
    ours::append_all,
    postgres,
    shop::{TYPE_NAME, orders, payload},
    timing::{APPENDERS, Stopwatch, work_file},
};

const SMALL: u64 = 100_000;
const LARGE: u64 = 10_000_000;
/// 100 streams grow in turn to this length, then the next 100: so both logs look the same to who reads a stream.
const PER_STREAM: u64 = 1_000;
const ROUNDS: usize = 5;
const APPENDS: usize = 10_000;
const LOADS: u64 = 100;
const HEADS: u64 = 5_000;

/// What a log does per second: events appended, streams of 1,000 events loaded, heads told.
type Rates = [f64; 3];

/// The large log's rates divided by the small one's: of appends, with loads and heads beside, and the large log's own.
pub(crate) fn measure(kind: &str) -> Outcome {
    let logs =
        [("small", SMALL), ("large", LARGE)].map(|(name, count)| Log::new(kind, name, count));
    let [small, large] = logs;
    let (small, large) = (small?, large?);
    let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        of_small.push(small.rates(round)?);
        of_large.push(large.rates(round)?);
    }
    let [small_rates, large_rates] = [medians(&of_small), medians(&of_large)];
    let [append, load, head] = [0, 1, 2].map(|n| large_rates[n] / small_rates[n]);
    block_on(small.services.close())?;
    block_on(large.services.close())?;
    Ok(Figure::new(append, "x")
        .beside("load", load)
        .beside("head", head)
        .beside("large appends/s", large_rates[0])
        .beside("large loads/s", large_rates[1])
        .beside("large heads/s", large_rates[2])
        .beside("small appends/s", small_rates[0])
        .beside("small loads/s", small_rates[1])
        .beside("small heads/s", small_rates[2]))
}

struct Log {
    services: Services,
    streams: u64,
}

impl Log {
    /// Makes the tables by opening the store once, and fills them from below.
    fn new(kind: &str, name: &str, count: u64) -> Result<Self, Box<dyn Error>> {
        let url = match kind {
            "postgres" => format!("{}&schema={name}", postgres::url()?),
            "sqlite" => format!("sqlite:{}", file(name)),
            _ => return Err(format!("no store is called `{kind}`").into()),
        };
        block_on(open(&url)?.close())?;
        match kind {
            "postgres" => postgres::runtime()?.block_on(fill_postgres(name, count))?,
            _ => fill_sqlite(&file(name), count)?,
        }
        let services = open(&url)?;
        let head = block_on(services.events.head())?;
        if head.map(|position| position.0) != Some(count) {
            return Err(format!("the log ends at {head:?}, not at {count}").into());
        }
        let streams = count / PER_STREAM;
        Ok(Self { services, streams })
    }

    fn rates(&self, round: usize) -> Result<Rates, Box<dyn Error>> {
        let store = &*self.services.events;
        let last = self.streams - APPENDERS as u64;
        let names: Vec<StreamName> = (0..APPENDERS as u64)
            .map(|number| stream(last + number))
            .collect::<Result<_, _>>()?;
        let append = append_all(store, names, orders(APPENDS))?;
        let watch = Stopwatch::start();
        for load in 0..LOADS {
            let number = load * self.streams / LOADS + round as u64;
            block_on(self.load(number % self.streams))?;
        }
        let loads = watch.per_second(LOADS);
        let watch = Stopwatch::start();
        for _ in 0..HEADS {
            block_on(store.head())?;
        }
        Ok([append, loads, watch.per_second(HEADS)])
    }

    async fn load(&self, number: u64) -> Result<(), Box<dyn Error>> {
        let options = ReadStream::from(0).limit(usize::try_from(PER_STREAM)?);
        let store = &self.services.events;
        let page = store.read_stream(stream(number)?, options).await?;
        if page.events.len() as u64 == PER_STREAM {
            Ok(())
        } else {
            Err(format!("stream {number} has {} events", page.events.len()).into())
        }
    }
}

fn medians(rates: &[Rates]) -> Rates {
    [0, 1, 2].map(|n| {
        let mut column: Vec<f64> = rates.iter().map(|rates| rates[n]).collect();
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    })
}

fn open(url: &str) -> Result<Services, Box<dyn Error>> {
    let mut settings = Settings::default();
    settings.store = Some(url.to_owned());
    Ok(Plan::new(settings)?.open("bench")?)
}

fn stream(number: u64) -> Result<StreamName, orkestra::ports::StoreError> {
    StreamName::new(&format!("order-{number}"))
}

fn file(name: &str) -> String {
    work_file(&format!("{name}.db")).display().to_string()
}

async fn fill_postgres(schema: &str, count: u64) -> Result<(), Box<dyn Error>> {
    let client = postgres::connect().await?;
    let metadata = &orders(1)[0].metadata;
    let streams = count / PER_STREAM;
    let block = SMALL;
    let data = payload(0);
    client
        .batch_execute(&format!(
            "SET synchronous_commit = off;
            INSERT INTO {schema}.types (name) VALUES ('{TYPE_NAME}');
            INSERT INTO {schema}.streams (name) SELECT 'order-' || n FROM generate_series(0, {streams} - 1) n;
            INSERT INTO {schema}.events
                (position, stream_id, revision, event_id, occurred_at, type_id, version, data, metadata)
            SELECT p, s.id, (p - 1) % {block} / {APPENDERS}, (lpad(to_hex(p), 12, '0') || '70008000000000000000')::uuid,
                now(), t.id, 1, '{data}', '{metadata}'
            FROM generate_series(1, {count}::bigint) p
            JOIN {schema}.types t ON true
            CROSS JOIN LATERAL (SELECT (p - 1) / {block} * {APPENDERS} + (p - 1) % {APPENDERS} + 1 AS id) s;
            SELECT setval('{schema}.positions', {count})"
        ))
        .await?;
    client
        .batch_execute(&format!("VACUUM (ANALYZE) {schema}.events"))
        .await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

fn fill_sqlite(file: &str, count: u64) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -200_000)?;
    connection.execute("INSERT INTO orkestra_types (name) VALUES (?1)", [TYPE_NAME])?;
    connection.execute(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?1)
        INSERT INTO orkestra_streams (id, name) SELECT n + 1, 'order-' || n FROM n",
        [i64::try_from(count / PER_STREAM)?],
    )?;
    let mut insert = connection.prepare(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?2)
        INSERT INTO orkestra_events
        SELECT ?1 * ?2 + n + 1, ?1 * ?3 + n % ?3 + 1, n / ?3, unhex(printf('%012x', ?1 * ?2 + n) || '70008000000000000000'),
            1, 1, ?4, ?5, ?6 FROM n",
    )?;
    let order = &orders(1)[0];
    for block in 0..i64::try_from(count / SMALL)? {
        insert.execute((
            block,
            i64::try_from(SMALL)?,
            i64::try_from(APPENDERS)?,
            order.occurred_at.as_micros(),
            payload(0),
            &*order.metadata,
        ))?;
    }
    drop(insert);
    connection.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
    Ok(())
}
