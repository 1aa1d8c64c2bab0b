// Events per second that a projection takes into an SQL view, with its checkpoint: `postgres_projection.mjs SIDE`.
// Both sides read batches of 1,000 and commit view and checkpoint together. Emmett calls its projection for each event of
// a batch and writes its checkpoint after each; ours is called with the batch.

import { payload } from "./_shop.mjs";
import { emit } from "./_timing.mjs";

const BATCH = 1000;
const PER_STREAM = 100;
const EVENTS = { emmett: 10_000, orkestra: 200_000 };

const UPSERT = `INSERT INTO board SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
  ON CONFLICT (stream) DO UPDATE
  SET events = board.events + excluded.events, quantity = board.quantity + excluded.quantity`;
const CREATE = `CREATE TABLE board (stream text PRIMARY KEY, events bigint NOT NULL, quantity bigint NOT NULL)`;

async function emmett() {
  const { postgreSQLRawBatchSQLProjection } = await import("@event-driven-io/emmett-postgresql");
  const { sql } = await import("@event-driven-io/dumbo");
  const { openEmmettPostgres } = await import("./_emmett_postgres.mjs");
  const { store, pool, connectionString, close } = await openEmmettPostgres();
  await fill(EVENTS.emmett, (data) => ({ type: "OrderPlaced", data }), store.appendToStream);
  await pool.query(CREATE);
  let seen = 0;
  let start;
  const projection = postgreSQLRawBatchSQLProjection({
    name: "board",
    canHandle: ["OrderPlaced"],
    evolve: (events) => {
      // What comes before the second batch is starting, as on our side.
      if (seen >= BATCH) start ??= performance.now();
      seen += events.length;
      return events.map(({ data, metadata }) =>
        sql(
          `INSERT INTO board VALUES (%L, 1, %s) ON CONFLICT (stream) DO UPDATE
           SET events = board.events + 1, quantity = board.quantity + excluded.quantity`,
          metadata.streamName,
          data.quantity,
        ),
      );
    },
  });
  const consumer = store.consumer({
    pulling: { batchSize: BATCH, pullingFrequencyInMs: 1 },
    stopWhen: { noMessagesLeft: true },
  });
  consumer.projector({
    processorId: "board",
    projection,
    connectionOptions: { connectionString, pool },
  });
  await consumer.start();
  const seconds = (performance.now() - start) / 1000;
  await check(pool, EVENTS.emmett);
  await close();
  return (EVENTS.emmett - BATCH) / seconds;
}

async function orkestra() {
  const { default: pg } = await import("pg");
  const { OrderPlaced, makeApp } = await import("./_ours.mjs");
  const count = EVENTS.orkestra;
  const writer = makeApp({ store: process.env.BENCH_POSTGRES });
  writer.addTypes(OrderPlaced);
  await writer.start();
  await fill(count, OrderPlaced, (stream, events) => writer.store.append(stream, events));
  const head = await writer.store.head();
  await writer.close();
  const view = new pg.Client({ connectionString: process.env.BENCH_POSTGRES });
  await view.connect();
  await view.query(CREATE);
  const app = makeApp({ store: process.env.BENCH_POSTGRES });
  let start;
  const project = async (events, checkpoint) => {
    const rows = new Map();
    for (const { stream, event } of events) {
      const row = rows.get(stream) ?? { events: 0, quantity: 0 };
      row.events++;
      row.quantity += event.quantity;
      rows.set(stream, row);
    }
    const values = [...rows.values()];
    await view.query("BEGIN");
    await view.query({
      name: "upsert",
      text: UPSERT,
      values: [[...rows.keys()], values.map((r) => r.events), values.map((r) => r.quantity)],
    });
    await checkpoint.save(view);
    await view.query("COMMIT");
    // What comes before the second batch is starting.
    start ??= performance.now();
  };
  app.projection("board", { events: [OrderPlaced], batchSize: BATCH }, project);
  await app.start();
  await app.caughtUp("board", head);
  const seconds = (performance.now() - start) / 1000;
  await app.close();
  await check(view, count);
  await view.end();
  return (count - BATCH) / seconds;
}

/** Appends `count` events of `make` to streams of 100. */
async function fill(count, make, append) {
  for (let stream = 0; stream < count / PER_STREAM; stream++) {
    const events = Array.from({ length: PER_STREAM }, (_, n) => make(payload(n)));
    await append(`order-${stream}`, events);
  }
}

/** Throws unless the view has every event once. */
async function check(pool, count) {
  const { rows } = await pool.query("SELECT sum(events)::int AS events FROM board");
  if (rows[0].events !== count) throw new Error(`the view has ${rows[0].events} events`);
}

const sides = { emmett, orkestra };
emit(await sides[process.argv[2]](), "events/s");
