// The backend alone, as a process, by what it says on the wire. With SQLite; and with PostgreSQL, too,
// where POSTGRES_URL says which database may be filled.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import pg from 'pg';
import { WebSocket } from 'ws';

const SERVER = fileURLToPath(new URL('../server.js', import.meta.url));

/** How long anything may take. */
const PATIENCE_MS = 10_000;

const directory = mkdtempSync(path.join(os.tmpdir(), 'dashboard-test-'));
after(() => rmSync(directory, { recursive: true }));

const databases = { SQLite: path.join(directory, 'test.db') };
if (process.env.POSTGRES_URL) databases.PostgreSQL = process.env.POSTGRES_URL;

for (const [name, url] of Object.entries(databases)) {
  describe(name, () => {
    let backend;
    before(async () => {
      if (name === 'PostgreSQL') await empty(url);
      backend = await Backend.start(url);
    });
    after(() => backend.kill());

    test('prices come with the version at which they were so, and their past', async () => {
      const { version, prices } = await backend.get('/api/prices');
      assert.equal(prices.length, 10);
      assert.ok(prices.every((price) => price.version <= version && price.recent.length === 40));
      assert.ok(prices.every(({ price, recent }) => recent.at(-1) === price));
      assert.equal(Math.max(...prices.map((price) => price.version)), version);
    });

    test('a notification is created, read once, and each time an event says so', async () => {
      const { version } = await backend.get('/api/notifications');
      const stream = backend.events(version);
      const [status, created] = await backend.send('POST', '/api/notifications', {
        title: ' Hello ',
        level: 'success',
      });
      assert.equal(status, 201);
      assert.equal(created.title, 'Hello');
      const [, read] = await backend.send('PATCH', `/api/notifications/${created.id}`, {
        read: true,
      });
      assert.ok(read.read_at);
      const [, again] = await backend.send('PATCH', `/api/notifications/${created.id}`, {
        read: true,
      });
      assert.deepEqual(again, read);

      await until('two events', () => stream.events.length >= 2);
      assert.deepEqual(stream.events, [
        { type: 'notification', id: String(version + 1), data: created },
        { type: 'notification', id: String(version + 2), data: read },
      ]);
      const { notifications } = await backend.get('/api/notifications');
      assert.deepEqual(notifications[0], read);
    });

    test('all that is unread is read in one go', async () => {
      for (const title of ['a', 'b']) await backend.send('POST', '/api/notifications', { title });
      const [, { notifications: changed }] = await backend.send('POST', '/api/notifications/read');
      assert.deepEqual(
        changed.map(({ title }) => title),
        ['a', 'b'],
      );
      const { notifications } = await backend.get('/api/notifications');
      assert.ok(notifications.every((row) => row.read_at !== null));
    });

    test('what makes no sense is refused, and says why', async () => {
      const refusals = [
        ['POST', '/api/notifications', {}, 400, /title/],
        ['POST', '/api/notifications', { title: 'x'.repeat(121) }, 400, /120/],
        [
          'POST',
          '/api/notifications',
          { title: 'x', level: 'loud' },
          400,
          /info, success, warning/,
        ],
        ['POST', '/api/notifications', { title: 'x', body: 5 }, 400, /text/],
        ['POST', '/api/notifications', '{', 400, /JSON/],
        ['PATCH', '/api/notifications/1', { read: false }, 400, /read/],
        ['PATCH', '/api/notifications/999999999', { read: true }, 404, /no such/],
        ['PATCH', '/api/notifications/x', { read: true }, 404, /no such/],
        ['GET', '/api/nothing', undefined, 404, /no such/],
      ];
      for (const [method, target, body, status, reason] of refusals) {
        const [actual, answer] = await backend.send(method, target, body);
        assert.equal(actual, status, `${method} ${target} ${JSON.stringify(body)}`);
        assert.match(answer.error, reason);
      }
    });

    test('pages of other sites can’t write, and can’t join the chat', async () => {
      const foreign = { Origin: 'https://elsewhere.example' };
      const response = await fetch(`${backend.origin}/api/notifications/read`, {
        method: 'POST',
        headers: foreign,
      });
      assert.equal(response.status, 403);
      const ours = { Origin: backend.origin };
      const own = await fetch(`${backend.origin}/api/notifications/read`, {
        method: 'POST',
        headers: ours,
      });
      assert.equal(own.status, 200);
      assert.equal(await backend.handshake(foreign), 401);
      assert.equal(await backend.handshake(ours), 101);
    });

    test('events are every change, in order, from where the reader was', async () => {
      const { version } = await backend.get('/api/prices');
      const stream = backend.events(version - 50);
      // Many at the same time: their transactions meet.
      const writes = Array.from({ length: 40 }, (_, i) =>
        backend.send('POST', '/api/notifications', { title: `n${i}` }),
      );
      await Promise.all(writes);
      await until('all events', () => stream.events.length >= 90);
      const ids = stream.events.map(({ id }) => Number(id));
      assert.deepEqual(
        ids,
        Array.from({ length: 90 }, (_, i) => version - 50 + 1 + i),
      );
    });

    test('a reader that has seen nothing gets what comes from now on', async () => {
      const stream = backend.events();
      await until('an answer', () => stream.isOpen);
      const [, created] = await backend.send('POST', '/api/notifications', { title: 'now' });
      await until('an event', () => stream.events.length > 0);
      assert.equal(stream.events[0].id, String(created.version));
    });

    for (const id of ['999999999', 'w6nw1c2ooo-17', '-1']) {
      test(`a reader whose last event is unknown (${id}) is told`, async () => {
        const stream = backend.events(id);
        await until('an event', () => stream.events.length > 0);
        const { version } = await backend.get('/api/prices');
        assert.deepEqual(stream.events[0], {
          type: 'reset',
          id: String(version),
          data: { version },
        });
      });
    }

    test('what is said in the chat is heard by all, once, and by those who come back', async () => {
      const [alice, bob] = [backend.chat(), backend.chat()];
      await until('both to be there', () => alice.isOpen && bob.isOpen);
      const said = { type: 'say', key: 'k1', author: 'Alice', text: 'Hello' };
      alice.say(said);
      await until('both to hear it', () => alice.heard('k1') && bob.heard('k1'));
      const { id } = alice.heard('k1');
      alice.say(said); // as after a break in which the confirmation was lost
      await until('the confirmation', () =>
        alice.all.some(({ type, key }) => type === 'said' && key === 'k1'),
      );
      bob.say({ type: 'say', key: 'k2', author: 'Bob', text: 'Hi' });
      await until('Alice to hear it', () => alice.heard('k2'));
      assert.equal(bob.all.filter(({ key }) => key === 'k1').length, 1);

      const back = backend.chat(id);
      await until('the one that was missed', () => back.heard('k2'));
      assert.equal(back.heard('k1'), undefined);
    });

    test('what can’t be said is refused, and a ping is answered', async () => {
      const chat = backend.chat();
      await until('it to be there', () => chat.isOpen);
      const says = [
        { type: 'say', key: 'k', author: '', text: 'x' },
        { type: 'say', key: 'k', author: 'A', text: ' ' },
        'null',
        '{',
        '[]',
      ];
      for (const say of says) chat.say(say);
      chat.say({ type: 'ping' });
      await until('the answers', () => chat.all.some(({ type }) => type === 'pong'));
      assert.equal(chat.all.filter(({ type }) => type === 'error').length, says.length);
    });

    test('killed and started again, it goes on where its readers were', async () => {
      const { version } = await backend.get('/api/prices');
      const [, created] = await backend.send('POST', '/api/notifications', { title: 'before' });
      backend.kill('SIGKILL');
      backend = await Backend.start(url);
      const stream = backend.events(version);
      await until('what was missed', () => stream.events.length > 0);
      assert.deepEqual(stream.events[0].data, created);
    });

    test('two backends with one database give the same events', async () => {
      const other = await Backend.start(url);
      try {
        const { version } = await backend.get('/api/prices');
        const streams = [backend.events(version), other.events(version)];
        const chats = [backend.chat(), other.chat()];
        await until('all to be there', () => chats.every(({ isOpen }) => isOpen));
        const write = (to, i) => to.send('POST', '/api/notifications', { title: `n${i}` });
        await Promise.all(Array.from({ length: 40 }, (_, i) => write(i % 2 ? backend : other, i)));
        await until('all events', () => streams.every(({ events }) => events.length >= 40));
        assert.deepEqual(streams[0].events, streams[1].events);
        assert.deepEqual(
          streams[0].events.map(({ id }) => id - version),
          Array.from({ length: 40 }, (_, i) => i + 1),
        );
        chats[0].say({ type: 'say', key: 'across', author: 'A', text: 'x' });
        await until('the other one to hear it', () => chats[1].heard('across'));
      } finally {
        other.kill();
      }
    });
  });
}

class Backend {
  static async start(url) {
    const env = { ...process.env, DATABASE_URL: url, BACKEND_PORT: '0', INTERVAL_MS: '0' };
    const child = spawn(process.execPath, [SERVER], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    const backend = new Backend();
    backend.child = child;
    backend.ends = [];
    for await (const line of readline.createInterface({ input: child.stdout })) {
      const [, origin] = /(http:\S+)/.exec(line) ?? [];
      if (!origin) continue;
      backend.origin = origin;
      return backend;
    }
    throw new Error('the backend ended at once');
  }

  async get(target) {
    return (await fetch(this.origin + target)).json();
  }

  async send(method, target, body) {
    const response = await fetch(this.origin + target, {
      method,
      headers: { 'Content-Type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    return [response.status, await response.json()];
  }

  /** An event stream, read until the backend ends. */
  events(lastEventId) {
    const stream = { events: [], isOpen: false };
    const headers = lastEventId === undefined ? {} : { 'Last-Event-ID': String(lastEventId) };
    const request = http.get(`${this.origin}/events`, { headers, agent: false }, (response) => {
      stream.isOpen = true;
      let text = '';
      response.setEncoding('utf8').on('data', (piece) => {
        text += piece;
        const blocks = text.split('\n\n');
        text = blocks.pop();
        for (const block of blocks) {
          const [, type, data, id] = /^event: (.*)\ndata: (.*)\nid: (.*)$/.exec(block);
          stream.events.push({ type, id, data: JSON.parse(data) });
        }
      });
      response.on('error', () => {});
    });
    request.on('error', () => {});
    this.ends.push(() => request.destroy());
    return stream;
  }

  chat(after = 0) {
    const socket = new WebSocket(`${this.origin.replace('http', 'ws')}/chat?after=${after}`);
    const chat = {
      all: [],
      isOpen: false,
      heard: (key) => chat.all.find((message) => message.type === 'message' && message.key === key),
      say: (message) =>
        socket.send(typeof message === 'string' ? message : JSON.stringify(message)),
    };
    socket.on('open', () => (chat.isOpen = true));
    socket.on('message', (text) => chat.all.push(JSON.parse(text)));
    socket.on('error', () => {});
    this.ends.push(() => socket.terminate());
    return chat;
  }

  /** What a WebSocket's handshake with these header fields is answered with. */
  handshake(headers) {
    const socket = new WebSocket(`${this.origin.replace('http', 'ws')}/chat`, { headers });
    return new Promise((resolve) => {
      socket.on('upgrade', ({ statusCode }) => resolve(statusCode));
      socket.on('unexpected-response', (request, { statusCode }) => resolve(statusCode));
    }).finally(() => socket.on('error', () => {}).terminate());
  }

  kill(signal = 'SIGTERM') {
    for (const end of this.ends) end();
    this.child.kill(signal);
  }
}

async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await sleep(5);
  }
}

async function empty(url) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query('DROP TABLE IF EXISTS counters, changes, prices, notifications, messages');
  await client.end();
}
