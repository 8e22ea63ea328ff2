// The log of changes: who writes to the database writes here, too, in the same transaction. So what
// /events sends is exactly what happened, in the order in which it happened, and a connection that
// broke goes on where it was: the id of an event is the number of the change.

/** How many changes are kept, for those that come back. */
const KEPT = 5_000;

/** How many are read at once. */
const PAGE = 500;

/**
 * The next number of a counter. It is a row and not a sequence (or AUTOINCREMENT): the row stays locked
 * until the transaction ends, so changes become visible in the order of their numbers, and no number is
 * left out. With a sequence, 8 can be visible before 7, and whoever reads "all after 8" never sees 7.
 */
export async function next(query, name) {
  const [{ value }] = await query(
    'UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value',
    [name],
  );
  return value;
}

/** The number of the last change. */
export async function currentVersion(query) {
  const [{ value }] = await query("SELECT value FROM counters WHERE name = 'changes'");
  return value;
}

/** Writes down a change; `version` is from `next(query, 'changes')`, and the row's own. */
export async function record(query, { version, type, about, data }) {
  await query('INSERT INTO changes (version, type, about, data, at) VALUES ($1, $2, $3, $4, $5)', [
    version,
    type,
    String(about),
    JSON.stringify(data),
    new Date().toISOString(),
  ]);
  if (version % 100 === 0) {
    await query('DELETE FROM changes WHERE version <= $1', [version - KEPT]);
  }
}

/** The changes after a version. */
export function changesAfter(query, version) {
  return query(
    `SELECT version, type, data FROM changes WHERE version > $1 ORDER BY version LIMIT ${PAGE}`,
    [version],
  );
}

/**
 * Where a reader begins that has seen this version last: after it, if all that followed is still there.
 * Else it has missed something, and goes on with what comes from now.
 */
export function findPlace(database, lastSeen) {
  return database.read(async (query) => {
    const newest = await currentVersion(query);
    if (lastSeen === null) return { version: newest, isReset: false };
    const [{ oldest }] = await query('SELECT MIN(version) AS oldest FROM changes');
    const isKnown =
      lastSeen === newest || (lastSeen < newest && oldest !== null && lastSeen >= oldest - 1);
    return isKnown ? { version: lastSeen, isReset: false } : { version: newest, isReset: true };
  });
}
