// The README's React example, exactly as it is printed there, in Chromium: with its channel, in front of
// an origin that says what the test wants.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { blocksOf } from './support/documents.js';
import { ORIGIN_HOST, ROOT, claim } from './support/world.js';

/** Where React is, and what bundles pages. */
const MODULES = path.join(ROOT, 'examples/dashboard/node_modules');

const SUBSCRIBERS = /^ssecast_subscribers\{channel="prices"\} (\d+)$/m;

claim("the README's React example shows the state, and then all that changes", async (world) => {
  const { origin, gateway, page, shown } = await open(world);
  await world.until('the page shows what there was', async () => (await shown()).INIT === 2, { state: shown });
  assert.deepEqual(await shown(), { ACME: origin.state.ACME, INIT: 2 });
  origin.say({ symbol: 'ACME', price: 30 });
  origin.say({ symbol: 'UMBR', price: 5 });
  origin.say({ symbol: 'INIT' }); // takes it back
  const expected = { ACME: 30, UMBR: 5 };
  await world.until('the page shows the changes', async () => same(await shown(), expected), { state: shown });
  await page.evaluate(() => window.leave());
  const subscribers = async () => Number(SUBSCRIBERS.exec(await gateway.metrics())?.[1]);
  await world.until('the page has unsubscribed', async () => (await subscribers()) === 0, { state: subscribers });
});

claim("the README's React example has no hole between the state and the stream", async (world) => {
  const { origin, page, shown } = await open(world, { changesEveryMs: 2 });
  for (let round = 0; round < 5; round += 1) {
    const atLoad = origin.state.ACME;
    await page.reload();
    await world.until('the page shows prices that came after it', async () => (await shown()).ACME > atLoad + 20, {
      state: shown,
    });
    // Every price is one more than the one before: none is skipped.
    const holes = await page.evaluate(() => window.holes);
    assert.deepEqual(holes, [], `round ${round}`);
  }
});

claim("the README's React example forgets what is no more when it is reset", async (world) => {
  const { origin, gateway, shown } = await open(world);
  await world.until('the page shows what there was', async () => (await shown()).INIT === 2, { state: shown });
  await gateway.kill();
  delete origin.state.INIT;
  origin.state.ACME = 40;
  await gateway.start();
  const expected = { ACME: 40 };
  await world.until('the page shows the new state', async () => same(await shown(), expected), { state: shown });
});

/** A page with the example, its gateway and its origin, which has two prices. */
async function open(world, { changesEveryMs } = {}) {
  const origin = await startOrigin(world);
  if (changesEveryMs) {
    const timer = setInterval(() => origin.say({ symbol: 'ACME', price: origin.state.ACME + 1 }), changesEveryMs);
    world.atEnd(() => clearInterval(timer));
  }
  const site = await serve(world, await bundle(world));
  const admin = await world.freeAddress();
  const gateway = await world.gatewayWith(`
[server]
drain = "0s"
[defaults]
retry = { min = "100ms", max = "200ms" }
backoff = { first = "100ms", max = "200ms" }
[listen.test]
address = "{listen}"
[admin]
address = "${admin}"
${channel().replace('http://127.0.0.1:3000', origin.url)}
[proxies.page]
path = "/{*rest}"
upstream = "${site}"
`);
  gateway.metrics = async () => (await fetch(`http://${admin}/metrics`)).text();
  const state = async () => {
    const answer = await fetch(`${gateway.url}/events/prices`, { headers: { Accept: 'application/json' } });
    return (await answer.json()).events;
  };
  await world.until('the gateway has the state', async () => (await state()).length === 2, { state });
  const page = await (await world.browser()).newPage();
  await page.goto(`${gateway.url}/`);
  const shown = () => page.evaluate(() => JSON.parse(document.getElementById('prices')?.textContent || '{}'));
  return { origin, gateway, page, shown };
}

/** The channel that the README has above the example. */
function channel() {
  const [block, ...others] = blocksOf('README.md', 'toml').filter((toml) => toml.includes('conflate_by'));
  assert.deepEqual(others, [], 'one block of the README says what the key is');
  return block;
}

/** The example as a page that shows its prices; gives the directory. */
async function bundle(world) {
  const [example, ...others] = blocksOf('README.md', 'jsx');
  assert.deepEqual(others, [], 'there is one example for React');
  const root = world.directory();
  fs.writeFileSync(path.join(root, 'index.html'), '<!doctype html><main></main><script type="module" src="/page.jsx"></script>');
  fs.writeFileSync(path.join(root, 'page.jsx'), `
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

${example}
window.holes = [];
const parse = JSON.parse;
let last = null;
// The page looks at what the example reads: the prices of ACME, in order.
JSON.parse = (...given) => {
  const read = parse(...given);
  if (read?.symbol === 'ACME') {
    if (last !== null && read.price !== last + 1) window.holes.push([last, read.price]);
    last = read.price;
  }
  return read;
};

function Page() {
  const prices = usePrices('/events/prices');
  const shown = Object.values(prices).map(({ symbol, price }) => [symbol, price ?? 'no price']);
  return <pre id="prices">{JSON.stringify(Object.fromEntries(shown))}</pre>;
}

const root = createRoot(document.querySelector('main'));
root.render(<Page />);
window.leave = () => root.unmount();
`);
  const { build } = await import(pathToFileURL(path.join(MODULES, 'vite/dist/node/index.js')));
  const alias = Object.fromEntries(['react', 'react-dom'].map((name) => [name, path.join(MODULES, name)]));
  await build({ root, configFile: false, logLevel: 'error', resolve: { alias } });
  return path.join(root, 'dist');
}

/** An origin that says all that it has to who connects, and then what changes. */
async function startOrigin(world) {
  const streams = new Set();
  const state = { ACME: 1, INIT: 2 };
  const block = (change) => `data: ${JSON.stringify(change)}\n\n`;
  const url = await listen(world, (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write(Object.entries(state).map(([symbol, price]) => block({ symbol, price })).join(''));
    streams.add(response);
    response.on('close', () => streams.delete(response));
  });
  const say = (change) => {
    if ('price' in change) state[change.symbol] = change.price;
    else delete state[change.symbol];
    for (const stream of streams) stream.write(block(change));
  };
  return { url, state, say };
}

/** Serves the files of a directory. */
function serve(world, directory) {
  const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript' };
  return listen(world, ({ url }, response) => {
    const file = path.join(directory, url === '/' ? 'index.html' : url);
    if (!fs.existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': types[path.extname(file)] ?? 'application/octet-stream' });
    return response.end(fs.readFileSync(file));
  });
}

async function listen(world, answer) {
  const server = http.createServer(answer);
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, ORIGIN_HOST, resolve));
  world.atEnd(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://${ORIGIN_HOST}:${server.address().port}`;
}

function same(one, other) {
  return JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());
}
