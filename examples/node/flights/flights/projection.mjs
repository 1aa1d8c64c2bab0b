/** The board as a table, which a projection keeps beside its own checkpoint. */
import { Board, Tally } from "./board.mjs";
import { FLIGHT_EVENTS } from "./events.mjs";

/** Where a tally's numbers are in the table. */
const COLUMNS = /** @type {const} */ ([
  ["flights", "flights"],
  ["cancelled", "cancelled"],
  ["diverted", "diverted"],
  ["departures", "departures"],
  ["departure_minutes", "departureMinutes"],
  ["arrivals", "arrivals"],
  ["arrival_minutes", "arrivalMinutes"],
]);
const TABLE = COLUMNS.map(([column]) => `${column} bigint NOT NULL`).join(", ");
const MARKS = COLUMNS.map(() => "?").join(", ");
const ADD = COLUMNS.map(([column]) => `${column} = b.${column} + excluded.${column}`).join(", ");

/**
 * Adds the projection to an app.
 *
 * @param {import("orkestra").Orkestra} app
 * @param {import("./view.mjs").View} view
 */
export function keepBoard(app, view) {
  app.projection(
    "board",
    {
      events: FLIGHT_EVENTS,
      batchSize: 2000,
      prepare: ({ suffix }) =>
        view.transaction(async (transaction) => {
          // What a rebuild left that came to no end.
          if (suffix !== "") await transaction.execute(`DROP TABLE IF EXISTS board${suffix}`);
          await transaction.execute(
            `CREATE TABLE IF NOT EXISTS board${suffix} (kind text, name text, ${TABLE}, PRIMARY KEY (kind, name))`,
          );
        }),
      switch: (checkpoint) =>
        view.transaction(async (transaction) => {
          await transaction.execute("DROP TABLE board");
          await transaction.execute("ALTER TABLE board_rebuild RENAME TO board");
          await transaction.switch(checkpoint);
        }),
    },
    async (events, checkpoint) => {
      const news = new Board();
      for (const { event } of events) news.count(event);
      const rows = [...news.tallies()].map(([kind, name, tally]) => [
        kind,
        name,
        ...COLUMNS.map(([, field]) => tally[field]),
      ]);
      await view.transaction(async (transaction) => {
        await transaction.execute(
          `INSERT INTO board${checkpoint.suffix} AS b VALUES (?, ?, ${MARKS}) ON CONFLICT (kind, name) DO UPDATE SET ${ADD}`,
          rows,
        );
        await transaction.save(checkpoint);
      });
    },
  );
}

/**
 * What the table says.
 *
 * @param {import("./view.mjs").View} view
 */
export async function readBoard(view) {
  const board = new Board();
  const rows = await view.transaction((transaction) => transaction.fetch("SELECT * FROM board"));
  for (const row of rows) {
    const tally = new Tally();
    // pg gives 64 bits as text.
    for (const [column, field] of COLUMNS) tally[field] = Number(row[column]);
    board.take(String(row.kind), String(row.name), tally);
  }
  return board;
}
