// One test's world: an origin, the gateway in front of it, clients. It ends with the test.

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { chromium } from 'playwright-core';

import { Cable } from './cable.js';
import { Child } from './child.js';
import { EventLog, Reader } from './event-stream.js';
import { Server } from './server.js';
import { until } from './until.js';

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const TARGET = path.resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target');
export const GATEWAY = process.env.SSECAST_BIN ?? path.join(TARGET, 'release/ssecast');
const PYTHON = process.env.SSECAST_PYTHON ?? path.join(TARGET, 'venv/bin/python');
const PAGE = fs.readFileSync(new URL('page.html', import.meta.url));

/**
 * Where origins listen. Connections to 127.0.0.1 take their local ports there, so a port that is
 * free here stays free: an origin that is started again finds its port as it left it.
 */
export const ORIGIN_HOST = '127.0.0.2';

/** The time between two events of an origin: many events in a short test. */
const INTERVAL_MS = 100;

/** How the gateway's log says where it listens. */
const LISTENS = /^(?=.*\blistening\b).*\baddress="?([\d.]+):(\d+)/;

/** How long a program may take that ends by itself. */
const COMMAND_MS = 60_000;

/** The example servers of which each test is run. */
export const ORIGINS = {
  Express: { command: process.execPath, script: path.join(ROOT, 'examples/express/server.js') },
  FastAPI: { command: PYTHON, script: path.join(ROOT, 'examples/fastapi/server.py') },
};

/** Declares a test that gets a world of its own; if it fails, the logs of that world are printed. */
export function claim(text, run) {
  test(text, async () => {
    const world = new World();
    try {
      await run(world);
    } catch (error) {
      console.error(`--- failed: ${text}`);
      for (const child of world.children) child.printLog();
      throw error;
    } finally {
      await world.end();
    }
  });
}

class World {
  children = [];
  #endings = [];

  /** Starts an example server, by its name in `ORIGINS`. */
  async origin(name) {
    const origin = new Origin(this, name);
    await origin.start();
    return origin;
  }

  /** Starts the gateway without a file, as the README's first lines do. */
  async gateway(origin) {
    return this.#serve(['--upstream', origin.url, '--path', '/events', '--listen', '127.0.0.1:0']);
  }

  /** Starts the gateway with a file whose times are short: heartbeats, reconnection. */
  async quickGateway(origin) {
    const file = path.join(this.directory(), 'ssecast.toml');
    fs.writeFileSync(file, `
[server]
drain = "0s"

[listen.test]
address = "127.0.0.1:0"

[admin]
address = "off"

[channels.events]
path = "/events"
upstream = "${origin.url}"
heartbeat = "1s"
retry = { min = "100ms", max = "200ms" }
cors = { origins = "*" }
`);
    return this.#serve(['--config', file]);
  }

  /** Starts the gateway without a file, over TLS, with a certificate that nobody trusts. */
  async secureGateway(origin) {
    const args = ['--upstream', origin.url, '--path', '/events', '--listen', '127.0.0.1:0'];
    const gateway = await this.#serve([...args, '--tls-self-signed']);
    return { ...gateway, url: gateway.url.replace('http:', 'https:') };
  }

  /** Connects a plain client, which reads without interruption until the test ends. */
  reader(url, headers) {
    const reader = new Reader(url, headers);
    this.#endings.push(() => reader.close());
    return reader;
  }

  /** Connects a reader and waits until events reach it. */
  async steadyReader(url) {
    const reader = this.reader(url);
    await this.until('the uninterrupted reader gets events', () => reader.events.length >= 2, {
      state: () => ({ status: reader.status, ended: reader.ended, events: reader.events }),
    });
    return reader;
  }

  /** Starts `curl -N`, resuming after an event if its id is given. */
  curl(url, { lastEventId, args = [] } = {}) {
    const log = new EventLog();
    const resume = lastEventId === undefined ? [] : ['-H', `Last-Event-ID: ${lastEventId}`];
    const onOutput = (bytes) => log.push(bytes);
    log.child = this.child('curl', 'curl', ['-sS', '-N', ...args, ...resume, url], { onOutput });
    return log;
  }

  /** Runs a program that ends by itself, soon; gives what it prints. */
  async command(program, args, { env = {}, cwd, withinMs = COMMAND_MS } = {}) {
    const options = { timeout: withinMs, cwd, env: { ...process.env, ...env }, maxBuffer: 10_000_000 };
    const { stdout } = await promisify(execFile)(program, args, options);
    return stdout;
  }

  /** Lays a cable to the gateway. */
  async cable(gateway) {
    const cable = await Cable.lay(gateway.port, gateway.host);
    this.#endings.push(() => cable.close());
    return cable;
  }

  /**
   * Opens a page of another origin in a browser of its own, subscribed to this URL `nSources` times.
   * The browser takes any certificate.
   */
  async page(streamUrl, { nSources = 1 } = {}) {
    const server = http.createServer((request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
      response.end(PAGE);
    });
    await new Promise((resolve, reject) => {
      server.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    this.#endings.push(() => {
      server.closeAllConnections();
      server.close();
    });

    const browser = await this.browser();
    const page = await browser.newPage();
    const origin = `http://127.0.0.1:${server.address().port}`;
    await page.goto(`${origin}/?n=${nSources}&stream=${encodeURIComponent(streamUrl)}`);
    const lookAtAll = () => page.evaluate(() => window.lookAtAll());
    return { lookAtAll, look: async () => (await lookAtAll())[0] };
  }

  /** Starts a browser of its own, with an empty profile. It takes any certificate. */
  async browser() {
    const profile = this.directory();
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: '/usr/bin/chromium',
      headless: true,
      args: [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--ignore-certificate-errors',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    this.#endings.push(() => context.close());
    return Object.assign(context, { profile });
  }

  /**
   * A server that can be killed and started again at the same address: `start(port)` starts its
   * process, and `address` finds in its log where it listens.
   */
  async server(name, start, address) {
    const server = new Server(name, start, address);
    await server.start();
    return server;
  }

  /** The gateway with this configuration, which listens at `{listen}`. */
  async gatewayWith(toml) {
    const file = path.join(this.directory(), 'ssecast.toml');
    const start = (port) => {
      fs.writeFileSync(file, toml.replaceAll('{listen}', `${ORIGIN_HOST}:${port}`));
      return this.child('the gateway', GATEWAY, ['serve', '--config', file]);
    };
    return this.server('the gateway', start, LISTENS);
  }

  /** The gateway by these arguments, which let it listen at a free port. */
  async gatewayBy(args) {
    return this.server('the gateway', () => this.child('the gateway', GATEWAY, args), LISTENS);
  }

  /** A certificate for localhost that nobody trusts: `{ certificate, key }`, the paths of the files. */
  async certificate(directory = this.directory()) {
    const [certificate, key] = ['fullchain.pem', 'privkey.pem'].map((name) => path.join(directory, name));
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const files = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '90'];
    await this.command('openssl', ['req', ...kind, ...files, '-keyout', key, '-out', certificate]);
    return { certificate, key };
  }

  /** An address where nobody listens, for a server that can't say where it listens. */
  async freeAddress() {
    const server = net.createServer();
    await new Promise((resolve, reject) => server.once('error', reject).listen(0, ORIGIN_HOST, resolve));
    const { address, port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return `${address}:${port}`;
  }

  /** Does this when the test is over, before what was started until now ends. */
  atEnd(ending) {
    this.#endings.push(ending);
  }

  /** Starts a process that ends with the test. */
  child(...args) {
    const child = new Child(...args);
    this.children.push(child);
    return child;
  }

  /** `until`, ended early when a process of this world ended by itself. */
  async until(text, holds, options = {}) {
    const guard = (waited) => {
      for (const child of this.children) child.assertRuns(waited);
    };
    return until(text, holds, { guard, ...options });
  }

  /** Ends all that it started, the last first; one failure does not keep the others from ending. */
  async end() {
    const failures = [];
    const endings = [...this.children.map((child) => () => child.kill()), ...this.#endings];
    for (const ending of endings.reverse()) {
      try {
        await ending();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'the world did not end cleanly');
  }

  async #serve(args) {
    const gateway = await this.gatewayBy(['serve', ...args]);
    const { port, host } = gateway;
    return { port, host, url: `${gateway.url}/events` };
  }

  /** A new empty directory, removed at the end. */
  directory() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'ssecast-test-'));
    this.#endings.push(() => fs.rmSync(directory, { recursive: true, force: true }));
    return directory;
  }
}

/** An example server, which can be stopped and started again at the same address. */
class Origin {
  #world;
  #port = 0;
  #child = null;

  constructor(world, name) {
    this.#world = world;
    this.name = name;
  }

  get url() {
    return `http://${ORIGIN_HOST}:${this.#port}/events`;
  }

  async start() {
    const { command, script } = ORIGINS[this.name];
    const env = { HOST: ORIGIN_HOST, PORT: this.#port, INTERVAL_MS };
    this.#child = this.#world.child(this.name, command, [script], { env });
    const [, port] = await this.#child.logged('prints its port', /http:\/\/[\d.]+:(\d+)/);
    this.#port = Number(port);
  }

  async stop() {
    await this.#child.stop();
  }

  /** Ends it as a crash would. */
  async kill() {
    await this.#child.kill();
  }

  /** How many event streams it feeds, now and since it started. */
  async connections() {
    const url = new URL('/connections', this.url);
    const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    return response.json();
  }
}
