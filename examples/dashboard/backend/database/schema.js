// The tables, in SQL that SQLite and PostgreSQL both understand. Money is in cents, time is text in
// UTC as RFC 3339 writes it, so neither depends on what a database makes of it.

export const SCHEMA = [
  // Sequences that are rows. See `next` in changes.js for why.
  `CREATE TABLE IF NOT EXISTS counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
  )`,

  // What has changed, in order: the events that /events sends. `about` says what a change is about
  // (a symbol, the id of a notification), `data` is the row as it is since then.
  `CREATE TABLE IF NOT EXISTS changes (
    version BIGINT PRIMARY KEY,
    type TEXT NOT NULL,
    about TEXT NOT NULL,
    data TEXT NOT NULL,
    at TEXT NOT NULL
  )`,

  `CREATE TABLE IF NOT EXISTS prices (
    symbol TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    price BIGINT NOT NULL,
    open BIGINT NOT NULL,
    version BIGINT NOT NULL
  )`,

  `CREATE TABLE IF NOT EXISTS notifications (
    id BIGINT PRIMARY KEY,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    level TEXT NOT NULL,
    created_at TEXT NOT NULL,
    read_at TEXT,
    version BIGINT NOT NULL
  )`,

  // `key` is the sender's own: what is sent again after a broken connection is not said twice.
  `CREATE TABLE IF NOT EXISTS messages (
    id BIGINT PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at TEXT NOT NULL
  )`,

  `INSERT INTO counters (name, value) VALUES ('changes', 0), ('messages', 0)
    ON CONFLICT (name) DO NOTHING`,
];
