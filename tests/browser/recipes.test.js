// The gateway in front of a whole backend, started as the READMEs of the examples say.

import assert from 'node:assert/strict';
import { blocksOf, read } from './support/documents.js';
import { ORIGINS, claim } from './support/world.js';

const FOLDERS = { Express: 'express', FastAPI: 'fastapi' };

/** What each answers itself where it has no such path: so the answer came through the gateway. */
const NOT_FOUND = { Express: /Cannot GET \/nowhere/, FastAPI: /"detail":"Not Found"/ };

for (const name of Object.keys(ORIGINS)) {
  for (const [how, serve] of [
    ['by one command', serveByCommand],
    ['by a file', serveByFile],
  ]) {
    claim(`all of ${name} is behind the gateway ${how}, and comes back after a crash`, async (world) => {
      const origin = await world.origin(name);
      const gateway = await serve(world, name, origin);
      const readers = [await world.steadyReader(`${gateway.url}/events`)];
      for (let n = 0; n < 4; n += 1) readers.push(world.reader(`${gateway.url}/events`));
      await world.until('all get events', () => readers.every(({ events }) => events.length >= 3));

      const ask = async (url) => {
        const response = await fetch(`${gateway.url}${url}`, { signal: AbortSignal.timeout(10_000) });
        return { status: response.status, text: await response.text() };
      };
      const connections = await ask('/connections');
      assert.deepEqual(JSON.parse(connections.text), { now: 1, ever: 1 }, 'one stream for all');
      const missing = await ask('/nowhere');
      assert.equal(missing.status, 404);
      assert.match(missing.text, NOT_FOUND[name]);

      await origin.kill();
      const { status, text } = await ask('/connections');
      assert.equal(status, 502, text);
      assert.ok(!text.includes(new URL(origin.url).host), `no address is told: ${text}`);
      const nEvents = readers.map(({ events }) => events.length);

      await origin.start();
      assert.equal((await ask('/connections')).status, 200, 'the first request after the restart');
      await world.until('all readers get events again', () => {
        return readers.every(({ events }, index) => events.length >= nEvents[index] + 3);
      });
      for (const { events, ended } of readers) {
        assert.equal(ended, null, 'the readers stayed');
        const notices = events.map(({ type }) => type).filter((type) => type !== 'message');
        assert.deepEqual(notices, ['ssecast.gap'], 'an origin without ids: the gap is told, once');
      }
      assert.deepEqual(JSON.parse((await ask('/connections')).text), { now: 1, ever: 1 });
    });
  }
}

/** Serves by the command in the README that has `--proxy` in it. */
async function serveByCommand(world, name, origin) {
  const { origin: url } = new URL(origin.url);
  const [, line] = /^ssecast (serve .*--proxy .*)$/m.exec(read(readme(name)));
  const args = line.split(' ').map((word) => word.replace(/^http:\/\/127\.0\.0\.1:\d+/, url));
  assert.ok(args.includes(url) && args.includes(origin.url), line);
  return world.gatewayBy([...args, '--listen', '127.0.0.1:0', '--admin', 'off']);
}

/** Serves with the file that the README shows. */
async function serveByFile(world, name, origin) {
  const [toml] = blocksOf(readme(name), 'toml');
  const { origin: url } = new URL(origin.url);
  const changed = toml.replaceAll('127.0.0.1:8080', '{listen}').replace(/http:\/\/127\.0\.0\.1:\d+/g, url);
  return world.gatewayWith(`${changed}\n[admin]\naddress = "off"\n`);
}

function readme(name) {
  return `examples/${FOLDERS[name]}/README.md`;
}
