// One test's world: the package, freshly installed in the container, an origin, and clients.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { Reader } from '../../browser/support/event-stream.js';
import { until } from '../../browser/support/until.js';
import * as container from './container.js';

/** Where the origin is; the container has a loopback interface of its own, so no port is taken. */
const ORIGIN_PORT = 3000;

const UNIT = 'ssecast.service';
const SOCKETS = ['ssecast.socket', 'ssecast-https.socket'];

/** Time between two events of the origin: many events in a short test. */
const INTERVAL_MS = 50;

/** Declares a test with a world of its own; if it fails, status and journal are printed. */
export function claim(text, run) {
  test(text, async () => {
    const world = new World();
    try {
      await world.begin();
      await run(world);
    } catch (error) {
      await world.print(text);
      throw error;
    } finally {
      await world.end();
    }
  });
}

/** Where `configure` has TLS's pair, if it is told of one. */
const TLS = '/etc/ssecast/tls';

class World {
  until = until;
  #readers = [];
  #servers = [];
  #cursor = '';

  async begin() {
    const shown = await container.run('journalctl', '-n', '0', '--show-cursor');
    this.#cursor = /cursor: (.*)/.exec(shown)[1];
    await container.install(container.PACKAGE);
  }

  /** Whatever the test has left behind, the next begins with a system without the package. */
  async end() {
    for (const reader of this.#readers) reader.close();
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    }
    await container.attempt('systemctl', 'kill', '--signal=KILL', UNIT);
    await container.attempt('dpkg', '--purge', 'ssecast');
    await container.run('rm', '-rf', '/etc/ssecast', '/var/lib/ssecast');
    for (const unit of [UNIT, ...SOCKETS]) {
      await container.run('rm', '-rf', `/etc/systemd/system/${unit}.d`);
    }
    await container.run('systemctl', 'daemon-reload');
    await container.attempt('systemctl', 'reset-failed', UNIT, ...SOCKETS);
  }

  async print(text) {
    console.error(`--- failed: ${text}`);
    for (const [command, ...args] of [
      ['systemctl', 'status', '--no-pager', '--full', UNIT, ...SOCKETS],
      ['journalctl', '--no-pager', `--after-cursor=${this.#cursor}`],
    ]) {
      const { output } = await container.attempt(command, ...args);
      console.error(`--- ${command}\n${output}`);
    }
  }

  /** An origin that counts, with ids, and resumes by them. */
  async origin() {
    const origin = new Origin();
    this.#servers.push(origin.server);
    await origin.listen();
    return origin;
  }

  /** Writes the configuration; `[listen.test]` and a channel `events` are in it. */
  configure({ address = '127.0.0.1:8080', listener = '', channel = '', more = '' } = {}) {
    container.write('/etc/ssecast/ssecast.toml', `
[server]
drain = "2s"

[listen.test]
address = "${address}"
${listener}

[channels.events]
path = "/events"
upstream = "http://127.0.0.1:${ORIGIN_PORT}/events"
backoff = { first = "100ms", max = "500ms" }
${channel}

${more}
`);
  }

  /**
   * Makes a certificate for `localhost` and puts it where the gateway reads it, as a deploy hook
   * does. Gives the certificate, for clients to trust.
   */
  async renewCertificate() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'ssecast-'));
    try {
      const [key, certificate] = ['key.pem', 'chain.pem'].map((name) => path.join(directory, name));
      await promisify(execFile)('openssl', [
        'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
        '-days', '30', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost',
        '-keyout', key, '-out', certificate,
      ]);
      await this.deploy('chain.pem', fs.readFileSync(certificate, 'utf8'));
      await this.deploy('key.pem', fs.readFileSync(key, 'utf8'));
      return fs.readFileSync(certificate, 'utf8');
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  }

  /** Replaces a file that only root and the gateway may read. */
  async deploy(name, text) {
    const file = `${TLS}/${name}`;
    fs.writeFileSync(container.hostPath(`${file}.next`), text, { mode: 0o600 });
    await container.run('chown', 'root:ssecast', `${file}.next`);
    await container.run('chmod', '0640', `${file}.next`);
    await container.run('mv', `${file}.next`, file);
  }

  /** Changes the unit as `systemctl edit` does. */
  async edit(unit, text) {
    container.write(`/etc/systemd/system/${unit}.d/test.conf`, text);
    await container.run('systemctl', 'daemon-reload');
  }

  systemctl(...args) {
    return container.run('systemctl', ...args);
  }

  /** A property of the unit as systemd has it. */
  async property(name, unit = UNIT) {
    const shown = await container.run('systemctl', 'show', '--value', `--property=${name}`, unit);
    return shown.trim();
  }

  /** What the service has logged, as records of the journal. */
  async journal() {
    const output = await container.run(
      'journalctl', '--output=json', `--unit=${UNIT}`, `--after-cursor=${this.#cursor}`,
    );
    return output.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }

  /** Waits for a record of the gateway's own that matches. */
  async logged(pattern) {
    const find = async () => (await this.journal()).find(({ MESSAGE }) => pattern.test(MESSAGE));
    return until(`the journal has ${pattern}`, find);
  }

  /** A client that reads until the end of the test. */
  async reader(url = 'http://127.0.0.1:8080/events', tls = {}) {
    const reader = new Reader(url, {}, tls);
    this.#readers.push(reader);
    await until('a client gets events', () => reader.events.length > 0, {
      guard: (waited) => {
        if (reader.ended !== null) throw new Error(`${reader.ended}, while waiting: ${waited}`);
      },
      state: () => ({ status: reader.status }),
    });
    return reader;
  }

  /** A client that tries until it trusts what it is shown. */
  async readerOnceTrusted(url, tls) {
    return until('a client trusts the certificate', async () => {
      const reader = new Reader(url, {}, tls);
      this.#readers.push(reader);
      await until('it is answered or refused', () => reader.events.length > 0 || reader.ended);
      return reader.ended === null ? reader : null;
    });
  }

  /** A client that comes back as a browser does, and counts connections that were refused. */
  returningClient(url = 'http://127.0.0.1:8080/events') {
    const client = new ReturningClient(url);
    this.#readers.push(client);
    return client;
  }
}

/** An event source: it resumes by the last event ID whenever its stream ends. */
class ReturningClient {
  events = [];
  nConnections = 0;
  refusals = [];
  #reader = null;
  #closed = false;

  constructor(url) {
    this.url = url;
    this.#connect();
  }

  #connect() {
    const lastEventId = this.events.at(-1)?.id;
    const reader = new Reader(this.url, lastEventId ? { 'Last-Event-ID': lastEventId } : {});
    this.#reader = reader;
    this.nConnections += 1;
    // The reader hands on what it has parsed: one list over all connections.
    reader.events = this.events;
    reader.request.on('error', (error) => {
      if (error.code === 'ECONNREFUSED') this.refusals.push(error.message);
    });
    reader.request.once('close', () => {
      if (!this.#closed) setTimeout(() => this.#closed || this.#connect(), INTERVAL_MS);
    });
  }

  close() {
    this.#closed = true;
    this.#reader.close();
  }
}

class Origin {
  #n = 0;
  #streams = new Set();
  #history = [];

  constructor() {
    this.server = http.createServer((request, response) => this.#answer(request, response));
    const timer = setInterval(() => this.#tick(), INTERVAL_MS);
    this.server.once('close', () => clearInterval(timer));
  }

  listen() {
    return new Promise((listening, failed) => {
      this.server.once('error', failed);
      this.server.listen(ORIGIN_PORT, '127.0.0.1', listening);
    });
  }

  #answer(request, response) {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.flushHeaders();
    const last = Number(request.headers['last-event-id'] ?? this.#n);
    for (const event of this.#history.slice(last)) response.write(event);
    this.#streams.add(response);
    response.once('close', () => this.#streams.delete(response));
  }

  #tick() {
    this.#n += 1;
    const event = `id: ${this.#n}\ndata: {"n":${this.#n}}\n\n`;
    this.#history.push(event);
    for (const stream of this.#streams) stream.write(event);
  }
}

/** Asserts that these are events of one run of the origin: each once, in order, none left out. */
export function assertUnbroken(events, who) {
  const counts = events.filter(({ type }) => type === 'message').map(({ data }) => JSON.parse(data).n);
  assert.ok(counts.length > 0, `${who} got no event`);
  const expected = counts.map((_, index) => counts[0] + index);
  assert.deepEqual(counts, expected, `${who}: an event is missing, doubled or moved`);
  const notices = events.filter(({ type }) => type !== 'message');
  assert.deepEqual(notices, [], `${who} was told of a loss`);
}
