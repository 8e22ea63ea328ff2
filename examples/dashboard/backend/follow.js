// Reads a log in the database as it grows: what is there after a cursor, then what comes. It is one
// query whether a reader has just come, was away, or waits for what is new; so nothing is lost or
// doubled where one ends and the other begins.

/**
 * Calls `send(rows)` with what `read(query, cursor)` finds, again and again until the signal. The rows'
 * `cursorOf` says where to go on. A reader that is slow (`send` gives a promise) is waited for, and has
 * cost nothing meanwhile but its place.
 */
export async function follow(database, { cursor, read, cursorOf, send, signal }) {
  let wake = () => {};
  let isNew = true;
  const stop = database.onWrite(() => {
    isNew = true;
    wake();
  });
  signal.addEventListener('abort', () => wake());
  try {
    while (!signal.aborted) {
      isNew = false;
      const rows = await database.read((query) => read(query, cursor));
      if (signal.aborted) return;
      if (rows.length > 0) {
        await send(rows);
        cursor = cursorOf(rows.at(-1));
      } else if (!isNew) {
        await new Promise((resolve) => (wake = resolve));
      }
    }
  } finally {
    stop();
  }
}
