// WebSockets through a proxy, by those who know them best: the cases of the Autobahn test suite, and a
// library that both ends use.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { WebSocket, WebSocketServer } from 'ws';

import { ROOT, claim } from './support/world.js';

const TARGET = path.resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target');
const KOSOKU = process.env.SSECAST_KOSOKU ?? path.join(TARGET, 'kosoku/bin/kosoku');

/**
 * Framing, control frames, reserved bits, opcodes, fragments, UTF-8, closing, sizes up to 1 MiB, and of
 * compression some of each kind. `SSECAST_WEBSOCKET_CASES='*'`: all, which takes some minutes.
 */
const CASES = (process.env.SSECAST_WEBSOCKET_CASES ?? [
  ...[1, 2, 3, 4, 5, 6, 7, 10].map((chapter) => `${chapter}.*`),
  '9.1.1', '9.1.2', '9.2.1', '9.2.2', '9.3.6', '9.4.6', '9.5.6', '9.6.6', '9.7.1', '9.8.1',
  '12.1.1', '12.2.1', '12.3.1', '13.1.1', '13.3.1',
].join(' ')).split(' ');

const CONFORMANCE_MS = 10 * 60_000;

/** A server that repeats what it hears. */
async function echo(world) {
  const server = new WebSocketServer({
    host: '127.0.0.1',
    port: 0,
    perMessageDeflate: true,
    maxPayload: 64 * 1024 * 1024,
  });
  server.on('connection', (socket) => {
    // The cases are full of what is wrong; the library closes, and says so.
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  await new Promise((resolve) => server.once('listening', resolve));
  world.atEnd(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  return { server, address: `127.0.0.1:${server.address().port}` };
}

async function before(world, address) {
  return world.gatewayWith(`
[server]
drain = "1s"

[listen.test]
address = "{listen}"

[admin]
address = "off"

[proxies.chat]
path = "/{*rest}"
upstream = "http://${address}"
`);
}

/** What a server did in each case. */
async function conformance(world, address) {
  const directory = world.directory();
  const cases = CASES.flatMap((name) => ['--include', name]);
  const args = [...cases, '--parallelism', '2', '--outdir', directory, address];
  try {
    await world.command(KOSOKU, args, { withinMs: CONFORMANCE_MS });
  } catch (error) {
    // It fails where a case does, with a report all the same. What the server does is not judged here.
    if (error.code !== 1) throw error;
  }
  const report = JSON.parse(fs.readFileSync(path.join(directory, 'index.json'), 'utf8'));
  return new Map(Object.entries(Object.values(report)[0]));
}

claim('a conformance client finds the same through the gateway as without it, case by case', async (world) => {
  const { address } = await echo(world);
  const gateway = await before(world, address);
  const direct = await conformance(world, address);
  const through = await conformance(world, new URL(gateway.url).host);
  assert.ok(direct.size >= 250, `there were ${direct.size} cases only`);
  assert.deepEqual([...through.keys()], [...direct.keys()]);
  const behaviors = (report) => [...report].map(([name, { behavior }]) => `${name}: ${behavior}`);
  assert.deepEqual(behaviors(through), behaviors(direct));
  // Where the library gives a client up, it is a race between its Close and its reset who is first, also
  // without the gateway. What was heard of a Close is the same.
  for (const [name, { remoteCloseCode }] of direct) {
    const other = through.get(name).remoteCloseCode;
    if (remoteCloseCode && other) assert.equal(other, remoteCloseCode, name);
  }
  const n = [...direct.values()].filter(({ behavior }) => behavior === 'OK').length;
  console.log(`${direct.size} cases are the same through the gateway, ${n} of them OK`);
});

claim('a library at both ends of a tunnel closes cleanly with 1001 when the gateway stops', async (world) => {
  const { server, address } = await echo(world);
  const gateway = await before(world, address);
  const atOrigin = [];
  server.on('connection', (socket) => {
    socket.on('close', (code, reason) => atOrigin.push({ code, reason: reason.toString() }));
  });
  const clients = Array.from({ length: 20 }, () => {
    const socket = new WebSocket(gateway.url.replace('http:', 'ws:'));
    const client = { socket, said: 0, heard: [], closed: undefined };
    socket.on('open', () => socket.send('0'));
    socket.on('message', (data) => {
      client.heard.push(Number(data));
      client.said += 1;
      if (socket.readyState === WebSocket.OPEN) socket.send(String(client.said));
    });
    socket.on('close', (code, reason) => { client.closed = { code, reason: reason.toString() }; });
    socket.on('error', (error) => { client.error = error; });
    return client;
  });
  await world.until('all talk', () => clients.every(({ heard }) => heard.length >= 20));
  const stopping = gateway.stop();
  await world.until('all are closed', () => clients.every(({ closed }) => closed !== undefined), {
    guard: () => {},
    state: () => clients.map(({ heard, closed, error }) => ({ n: heard.length, closed, error })),
  });
  await stopping;
  for (const { heard, closed, error } of clients) {
    assert.equal(error, undefined);
    assert.deepEqual(closed, { code: 1001, reason: 'the gateway stops' });
    assert.deepEqual(heard, heard.map((_, index) => index), 'nothing is missing before the end');
  }
  await world.until('the origin has heard of it, too', () => atOrigin.length === clients.length, {
    guard: () => {},
    state: () => atOrigin,
  });
  for (const closed of atOrigin) assert.equal(closed.code, 1001);
});
