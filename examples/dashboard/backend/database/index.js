// The database: SQLite in a file, or PostgreSQL where DATABASE_URL says so. To the rest of the
// backend they are the same:
//
//   await database.read(async (query) => …)    sees one moment of the database, however many queries
//   await database.write(async (query) => …)   a transaction: all of it, or nothing
//   database.onWrite(listener)                 called after each write; with PostgreSQL also after
//                                              those of other processes. Returns how to stop.
//   await database.close()
//
// `query(sql, parameters)` gives the rows. SQL is written with $1, $2, … in either case.

import { SCHEMA } from './schema.js';

export async function openDatabase(url) {
  const isPostgres = /^postgres(ql)?:/.test(url);
  // Only the driver that is needed is loaded.
  const { open } = isPostgres ? await import('./postgres.js') : await import('./sqlite.js');
  const database = await open(url);
  await database.write(async (query) => {
    for (const statement of SCHEMA) await query(statement);
  });
  return database;
}
