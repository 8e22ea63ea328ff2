// examples/dashboard as a site under test: its backend and database, the gateway with its file, its page.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { inTestingTimes } from './testing-times.js';
import { ORIGIN_HOST, ROOT } from './world.js';

const EXAMPLE = path.join(ROOT, 'examples/dashboard');

const LISTENS = /backend listening on http:\/\/([\d.]+):(\d+)/;

/** As many past prices, notifications and messages as the page has of the newest. */
const N_SHOWN = { recent: 40, notifications: 50, messages: 50 };

export class DashboardSite {
  #world;
  #url;
  #admin;
  #database;
  #nChanges = 0;

  /**
   * `admin`: where the gateway tells how it is; `url`: of a database, if it is not a new file; `tls`:
   * a certificate and its key, by which the gateway speaks TLS.
   */
  static async start(world, { url, admin, tls } = {}) {
    const site = new DashboardSite();
    site.#world = world;
    site.#url = url ?? path.join(world.directory(), 'dashboard.db');
    site.#admin = admin;
    site.backend = await world.server('the backend', (port) => site.#startBackend(port), LISTENS);
    let toml = fs.readFileSync(path.join(EXAMPLE, 'ssecast.toml'), 'utf8');
    if (tls) toml = toml.replace('[listen.public]\n', `$&tls = { certificate = "${tls.certificate}", key = "${tls.key}" }\n`);
    site.scheme = tls ? 'https' : 'http';
    site.gateway = await world.gatewayWith(inTestingTimes(toml, site.backend.url, world.directory(), admin));
    // The same database beside the backend, as a nightly job would have it; and for a look at the truth.
    const { openDatabase } = await import(path.join(EXAMPLE, 'backend/database/index.js'));
    site.#database = await openDatabase(site.#url);
    world.atEnd(() => site.#database.close());
    return site;
  }

  #startBackend(port) {
    const env = {
      HOST: ORIGIN_HOST,
      BACKEND_PORT: port,
      DATABASE_URL: this.#url,
      INTERVAL_MS: 0,
      ...(this.#admin && { GATEWAY_ADMIN: `http://${this.#admin}` }),
    };
    const script = path.join(EXAMPLE, 'backend/server.js');
    return this.#world.child('the backend', process.execPath, [script], { env });
  }

  /**
   * Changes something of everything, as users of the backend do, and a price beside the backend. Fails
   * while the backend is away; then a price has changed all the same.
   */
  async change() {
    const n = (this.#nChanges += 1);
    const { setPrice } = await import(path.join(EXAMPLE, 'backend/prices.js'));
    const [{ symbol }] = await this.#rows('SELECT symbol FROM prices ORDER BY symbol LIMIT 1 OFFSET $1', [n % 10]);
    await setPrice(this.#database, symbol, 1_000 + n);
    const { id } = await this.#ask('POST', '/api/notifications', { title: `Change ${n}` });
    if (n % 3 === 0) await this.#ask('PATCH', `/api/notifications/${id}`, { read: true });
  }

  async #ask(method, url, body) {
    const response = await fetch(`${this.backend.url}${url}`, {
      method,
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    const answer = await response.json();
    assert.ok(response.ok, JSON.stringify(answer));
    return answer;
  }

  #rows(sql, parameters = []) {
    return this.#database.read((query) => query(sql, parameters));
  }

  /** What the database says, in the form of `look`. */
  async truth() {
    return this.#database.read(async (query) => {
      const prices = await query('SELECT symbol, name, price, open, version FROM prices ORDER BY symbol');
      const past = await query("SELECT about, data FROM changes WHERE type = 'price' ORDER BY version");
      const recent = (symbol) =>
        past.filter(({ about }) => about === symbol).slice(-N_SHOWN.recent).map(({ data }) => JSON.parse(data).price);
      const newest = (table) => query(`SELECT * FROM ${table} ORDER BY id DESC LIMIT ${N_SHOWN[table]}`);
      const messages = await newest('messages');
      return {
        prices: prices.map((row) => sorted({ ...row, recent: recent(row.symbol) })),
        notifications: (await newest('notifications')).map(sorted),
        messages: messages.reverse().map(({ author, text }) => ({ author, text })),
      };
    });
  }

  /** The number of the newest event. */
  async newest() {
    const [{ value }] = await this.#rows("SELECT value FROM counters WHERE name = 'changes'");
    return value;
  }

  /** What the page's query cache has, what its chat has, and what people see of it. */
  async look(page) {
    const { prices, notifications, ...seen } = await page.evaluate(() => {
      const client = window.__TANSTACK_QUERY_CLIENT__;
      const text = (element, selector) => element.querySelector(selector).textContent;
      const all = (prefix) => [...document.querySelectorAll(`[data-testid^="${prefix}-"]`)];
      return {
        prices: client?.getQueryData(['prices'])?.prices,
        notifications: client?.getQueryData(['notifications'])?.notifications,
        state: document.querySelector('[data-testid="connection-state"]')?.textContent,
        lastEventId: document.querySelector('[data-testid="last-event-id"]')?.textContent,
        messages: [...document.querySelectorAll('article[data-testid^="message-"]')].map((element) => ({
          author: text(element, '.author').split(' ').slice(0, -1).join(' ').trim(),
          text: text(element, '.text'),
        })),
        nPending: document.querySelectorAll('[data-testid="pending"]').length,
        shown: {
          prices: all('price').map((row) => [text(row, 'b'), text(row, 'td.number .flash')]),
          notifications: all('notification').map((row) => [row.querySelector('.title').lastChild.textContent, row.dataset.read]),
        },
      };
    });
    const isThere = prices !== undefined && notifications !== undefined;
    return {
      cache: isThere
        ? { prices: prices.map(sorted), notifications: notifications.map(sorted), messages: seen.messages }
        : null,
      shown: seen.shown,
      nPending: seen.nPending,
      isLive: seen.state === 'Live',
      lastEventId: /^\d+$/.test(seen.lastEventId) ? seen.lastEventId : '',
    };
  }

  /** What is seen of what is known. */
  shownOf({ prices, notifications }) {
    return {
      prices: prices.map(({ symbol, price }) => [symbol, money.format(price / 100)]),
      notifications: notifications.map(({ title, read_at: readAt }) => [title, String(readAt !== null)]),
    };
  }

  /** The requests that fetch the state. */
  stateRequest = /\/api\/(prices|notifications)$/;
}

const money = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** The same object with its keys in order, so that two of them can be compared as texts. */
function sorted(row) {
  return Object.fromEntries(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)));
}
