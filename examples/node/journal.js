// A database in one file: every change is a line, the truth is what all lines together say.
//
// Stands in for yours. What matters is what it shares with a real one: a change has a number, and the
// change and its number are written together, before anybody is told.

import fs from 'node:fs';

/** Changes that stay readable one by one, for those who ask what they missed. */
const KEPT = 1_000;

export class Journal {
  /** The number of the newest change. */
  seq = 0;

  #file;
  #rows = new Map();
  #changes = [];

  constructor(file) {
    const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
    // What is behind the last line feed is a change that a crash cut off: nobody was told of it.
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      if (line !== '') this.#apply(JSON.parse(line));
    }
    this.#compact(file);
    this.#file = fs.openSync(file, 'a');
  }

  /** Writes down that the row is like this now; a row with nothing but its symbol is gone. */
  append(row) {
    const change = { seq: this.seq + 1, row };
    fs.writeSync(this.#file, `${JSON.stringify(change)}\n`);
    this.#apply(change);
    return change;
  }

  get(symbol) {
    return this.#rows.get(symbol)?.row;
  }

  /** All rows, and the number of the newest change that they know. */
  state() {
    const rows = [...this.#rows.values()].map(({ row }) => row);
    return { seq: this.seq, rows: rows.sort((a, b) => (a.symbol < b.symbol ? -1 : 1)) };
  }

  /**
   * The changes after this number. If some of them are not known one by one any more, those that
   * are: their numbers show that some are missing.
   */
  after(seq) {
    return this.#changes.filter((change) => change.seq > seq);
  }

  #apply(change) {
    const { seq, row } = change;
    this.seq = seq;
    if (Object.keys(row).length > 1) this.#rows.set(row.symbol, change);
    else this.#rows.delete(row.symbol);
    this.#changes.push(change);
    if (this.#changes.length > 2 * KEPT) this.#changes.splice(0, KEPT);
  }

  /** Leaves out of the file what is neither new nor the last word on its row. */
  #compact(file) {
    const kept = new Set([...this.#rows.values(), ...this.#changes]);
    const lines = [...kept].sort((a, b) => a.seq - b.seq).map((change) => JSON.stringify(change));
    fs.writeFileSync(`${file}.new`, lines.map((line) => `${line}\n`).join(''));
    fs.renameSync(`${file}.new`, file);
  }
}
