// examples/node as a site under test: its backend, the gateway with its file, and its page.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { inTestingTimes } from './testing-times.js';
import { ORIGIN_HOST, ROOT } from './world.js';

const EXAMPLE = path.join(ROOT, 'examples/node');

export class NodeSite {
  scheme = 'http';
  #world;
  #database;

  static async start(world) {
    const site = new NodeSite();
    site.#world = world;
    site.#database = path.join(world.directory(), 'prices.jsonl');
    site.backend = await world.server('the backend', (port) => site.#startBackend(port), LISTENS);
    site.gateway = await world.gatewayWith(site.#config());
    await site.change(); // so that there is something to see
    return site;
  }

  #startBackend(port) {
    const env = { HOST: ORIGIN_HOST, PORT: port, INTERVAL_MS: 0, DATABASE: this.#database };
    return this.#world.child('the backend', process.execPath, [path.join(EXAMPLE, 'server.js')], { env });
  }

  #config() {
    const toml = fs.readFileSync(path.join(EXAMPLE, 'ssecast.toml'), 'utf8');
    return inTestingTimes(toml, this.backend.url, this.#world.directory());
  }

  #nChanges = 0;

  /** Changes something, as a user of the backend does. Fails while the backend is away. */
  async change() {
    const n = (this.#nChanges += 1);
    const symbol = `TEST${'ABCDEFGH'[n % 8]}`;
    // Every now and then one is taken off the list.
    const request = n % 11 === 0 ? { method: 'DELETE' } : { method: 'PUT', body: JSON.stringify({ price: n }) };
    const url = `${this.backend.url}/api/prices/${symbol}`;
    const response = await fetch(url, { ...request, signal: AbortSignal.timeout(10_000) });
    assert.equal(response.status, 200, await response.text());
  }

  /** What the database says, read from its file. */
  truth() {
    const rows = new Map();
    let seq = 0;
    for (const line of fs.readFileSync(this.#database, 'utf8').split('\n').slice(0, -1)) {
      const change = JSON.parse(line);
      seq = change.seq;
      if (change.row.price === undefined) rows.delete(change.row.symbol);
      else rows.set(change.row.symbol, change.row.price);
    }
    return { seq, prices: [...rows].sort(bySymbol) };
  }

  /** The number of the newest event. */
  newest() {
    return this.truth().seq;
  }

  /** What the page's copy says, and what people see of it. */
  async look(page) {
    const { state, shown, status, lastEventId } = await page.evaluate(() => ({
      state: window.prices.state,
      status: window.prices.status,
      lastEventId: window.stream.lastEventId,
      shown: [...document.querySelectorAll('#prices tr')].map((row) => row.innerText.split('\t')),
    }));
    const rows = state?.rows.map(({ symbol, price }) => [symbol, price]).sort(bySymbol);
    return {
      cache: state && { seq: state.seq, prices: rows },
      shown: { prices: shown.map(([symbol, price]) => [symbol, Number(price)]) },
      isLive: status === 'live',
      lastEventId,
    };
  }

  /** What is seen of the truth. */
  shownOf({ prices }) {
    return { prices };
  }

  /** The requests that fetch the state. */
  stateRequest = /\/api\/prices$/;
}

const LISTENS = /http:\/\/([\d.]+):(\d+)/;

const bySymbol = ([a], [b]) => (a < b ? -1 : 1);
