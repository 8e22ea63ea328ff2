// PostgreSQL. Several processes of the backend may share it: each is told of the others' writes by
// NOTIFY, so each can feed the gateway, and the gateway can fail over from one to another.

import { EventEmitter } from 'node:events';

import pg from 'pg';

/** How long to wait before listening again, after the connection that listens broke. */
const LISTEN_AGAIN_MS = 1_000;

// BIGINT comes as text, because not every one fits a number. Ours do: cents and counters.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);

export async function open(url) {
  const pool = new pg.Pool({ connectionString: url });
  // Connections break when PostgreSQL stops. Who uses one is told by its query.
  pool.on('error', (error) => console.error(`PostgreSQL: ${error.message}`));
  pool.on('connect', (client) => client.on('error', () => {}));

  const writes = new EventEmitter().setMaxListeners(0);
  let isClosed = false;
  let ear = null;
  let again = null;

  async function listen() {
    ear = new pg.Client({ connectionString: url });
    ear.on('notification', () => writes.emit('write'));
    ear.on('error', () => {}); // 'end' follows
    ear.once('end', () => {
      if (!isClosed) again = setTimeout(() => listen().catch(() => {}), LISTEN_AGAIN_MS);
    });
    await ear.connect();
    await ear.query('LISTEN written');
    writes.emit('write'); // whatever was written while nobody listened
  }

  async function transaction(begin, work, end) {
    const client = await pool.connect();
    try {
      await client.query(begin);
      const value = await work(
        async (sql, parameters) => (await client.query(sql, parameters)).rows,
      );
      await client.query(end);
      client.release();
      return value;
    } catch (error) {
      // A connection that can't even roll back is of no use to the next one.
      await client.query('ROLLBACK').then(
        () => client.release(),
        (broken) => client.release(broken),
      );
      throw error;
    }
  }

  await listen();
  return {
    name: `PostgreSQL, ${new URL(url).host}${new URL(url).pathname}`,
    read: (work) => transaction('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', work, 'COMMIT'),
    write: (work) => transaction('BEGIN', work, 'NOTIFY written; COMMIT'),
    onWrite: (listener) => {
      writes.on('write', listener);
      return () => writes.off('write', listener);
    },
    close: async () => {
      isClosed = true;
      clearTimeout(again);
      await ear.end();
      await pool.end();
    },
  };
}
