// SQLite in a file, by libsql: a build of it that npm brings along, with the interface of
// better-sqlite3.

import { EventEmitter } from 'node:events';
import { mkdirSync } from 'node:fs';
import path from 'node:path';

import SQLite from 'libsql';

/** How often it is looked whether another process has written to the file: a script, a second backend. */
const LOOK_MS = 500;

export async function open(file) {
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
  const connection = new SQLite(file);
  connection.exec('PRAGMA busy_timeout = 5000'); // others may write, too, and we wait for them
  connection.exec('PRAGMA journal_mode = WAL'); // others may read while we write
  connection.exec('PRAGMA synchronous = NORMAL');

  const statements = new Map();
  const writes = new EventEmitter().setMaxListeners(0);

  async function query(sql, parameters = []) {
    let statement = statements.get(sql);
    if (!statement) {
      statement = connection.prepare(sql.replace(/\$(\d+)/g, '?$1'));
      statements.set(sql, statement);
    }
    if (!statement.reader) {
      statement.run(...parameters);
      return [];
    }
    return statement.all(...parameters);
  }

  // It changes when others write, and not when we do.
  const versionOfOthers = () => connection.prepare('PRAGMA data_version').all()[0].data_version;
  let seen = versionOfOthers();
  const looking = setInterval(() => {
    const version = versionOfOthers();
    if (version !== seen) writes.emit('write');
    seen = version;
  }, LOOK_MS);
  looking.unref();

  // There is one connection, so there is one transaction at a time: each waits for the one before.
  let last = Promise.resolve();
  function transaction(begin, work) {
    const result = last.then(async () => {
      connection.exec(begin);
      try {
        const value = await work(query);
        connection.exec('COMMIT');
        return value;
      } catch (error) {
        if (connection.inTransaction) connection.exec('ROLLBACK');
        throw error;
      }
    });
    last = result.catch(() => {}); // whoever asked is told; the next one goes on
    return result;
  }

  return {
    name: `SQLite, ${file}`,
    read: (work) => transaction('BEGIN', work),
    write: async (work) => {
      const value = await transaction('BEGIN IMMEDIATE', work);
      writes.emit('write');
      return value;
    },
    onWrite: (listener) => {
      writes.on('write', listener);
      return () => writes.off('write', listener);
    },
    close: async () => {
      clearInterval(looking);
      await last;
      connection.close();
    },
  };
}
