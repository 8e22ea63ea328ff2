// Notifications: created by anybody, read by somebody.

import { currentVersion, next, record } from './changes.js';

/** How many a page gets: the newest. */
const SHOWN = 50;

export const LEVELS = ['info', 'success', 'warning'];

/** The newest notifications, and the version at which they were so. */
export function readNotifications(database) {
  return database.read(async (query) => ({
    version: await currentVersion(query),
    notifications: await query(`SELECT * FROM notifications ORDER BY id DESC LIMIT ${SHOWN}`),
  }));
}

export function createNotification(database, { title, body, level }) {
  return database.write(async (query) => {
    // It keeps the number of the change that made it as its id.
    const version = await next(query, 'changes');
    const [row] = await query(
      `INSERT INTO notifications (id, title, body, level, created_at, read_at, version)
        VALUES ($1, $2, $3, $4, $5, NULL, $1) RETURNING *`,
      [version, title, body, level, new Date().toISOString()],
    );
    await record(query, { version, type: 'notification', about: row.id, data: row });
    return row;
  });
}

/** Gives `undefined` where there is no such notification. */
export function markAsRead(database, id) {
  return database.write(async (query) => {
    const [row] = await query('SELECT * FROM notifications WHERE id = $1', [id]);
    return row && (row.read_at ? row : read(query, row));
  });
}

export function markAllAsRead(database) {
  return database.write(async (query) => {
    const rows = await query('SELECT * FROM notifications WHERE read_at IS NULL ORDER BY id');
    const changed = [];
    for (const row of rows) changed.push(await read(query, row));
    return changed;
  });
}

async function read(query, { id }) {
  const version = await next(query, 'changes');
  const [row] = await query(
    'UPDATE notifications SET read_at = $1, version = $2 WHERE id = $3 RETURNING *',
    [new Date().toISOString(), version, id],
  );
  await record(query, { version, type: 'notification', about: id, data: row });
  return row;
}
