// What an event does to the prices in the cache. Pure: a row that did not change stays the same object,
// so React draws one row and not all.

/** How many past prices are kept to draw: as many as the backend gives. */
const RECENT = 40;

export function applyPrice(data, change) {
  const prices = data.prices.map((row) =>
    row.symbol === change.symbol && row.version < change.version
      ? { ...row, ...change, recent: [...row.recent, change.price].slice(-RECENT) }
      : row,
  );
  return { ...data, prices };
}
