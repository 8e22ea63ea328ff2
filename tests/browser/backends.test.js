// Whole backends behind a proxy, as people write them: REST, uploads, streams, in Express and FastAPI.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';

import { BACKENDS, startBackend } from './support/backends/index.js';
import { claim } from './support/world.js';

for (const name of Object.keys(BACKENDS)) {
  claim(`${name} behind a proxy is asked as by its clients: REST`, async (world) => {
    const { url } = await start(world, name);
    const item = await fetch(`${url}/items/7%2Fb?q=a%20b&q=c`);
    assert.deepEqual(await item.json(), { id: '7/b', q: ['a b', 'c'], host: new URL(url).host });
    const made = await fetch(`${url}/items`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ name: 'żółw' }),
    });
    assert.equal(made.status, 201);
    assert.deepEqual(await made.json(), { name: 'żółw' });
    assert.equal((await fetch(`${url}/items/7`, { method: 'DELETE' })).status, 204);
    assert.equal((await fetch(`${url}/nowhere`)).status, 404);
    const head = await fetch(`${url}/items/7`, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), '');
  });

  claim(`${name} behind a proxy gets an upload as it was sent`, async (world) => {
    const { url } = await start(world, name);
    const content = randomBytes(20 * 1024 * 1024 + 1);
    const expected = { bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
    const whole = await fetch(`${url}/upload`, { method: 'PUT', body: content });
    assert.deepEqual(await whole.json(), expected);

    // In chunks, which curl sends when it does not know how much there is.
    const file = path.join(world.directory(), 'content');
    await writeFile(file, content);
    for (const version of ['--http1.1', '--http2-prior-knowledge']) {
      const told = await world.command('sh', ['-c', `curl -sS ${version} -T - "${url}/upload" < "${file}"`]);
      assert.deepEqual(JSON.parse(told), expected, version);
    }
  });

  claim(`${name} behind a proxy streams token by token, and hears when its reader leaves`, async (world) => {
    const { url } = await start(world, name);
    const answer = await fetch(`${url}/chat`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ tokens: 20, interval: 0.05 }),
    });
    assert.match(answer.headers.get('content-type'), /^text\/event-stream/);
    let text = '';
    let nPieces = 0;
    for await (const piece of answer.body) {
      text += Buffer.from(piece).toString();
      nPieces += 1;
    }
    assert.equal(text, Array.from({ length: 20 }, (_, n) => `data: ${n}\n\n`).join(''));
    assert.ok(nPieces >= 10, `20 tokens came in ${nPieces} pieces`);

    await new Promise((resolve, reject) => {
      const request = http.request(`${url}/chat`, { method: 'POST', headers: { 'Content-Type': 'application/json' } });
      request.on('error', reject).on('response', (response) => {
        response.once('data', () => {
          request.destroy();
          resolve();
        });
      });
      request.end(JSON.stringify({ tokens: 10_000, interval: 0.02 }));
    });
    const left = async () => (await (await fetch(`${url}/left`)).json()).left;
    await world.until('the backend knows that its reader has left', async () => (await left()) === 1);
  });

  claim(`a silent stream of ${name} gets heartbeats on its way`, async (world) => {
    const { url } = await start(world, name, 'heartbeat = "1s"');
    const answer = await fetch(`${url}/chat`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ tokens: 2, interval: 2.5 }),
    });
    const text = await answer.text();
    assert.match(text, /^(:\n)+data: 0\n\n(:\n)+data: 1\n\n$/);
  });

  claim(`${name} that is restarted is asked again, by new connections`, async (world) => {
    const { url, backend } = await start(world, name);
    assert.equal((await fetch(`${url}/items/1`)).status, 200);
    await backend.kill();
    assert.equal((await fetch(`${url}/items/1`)).status, 502);
    await backend.start();
    await world.until('the backend is asked again', async () => (await fetch(`${url}/items/1`)).status === 200);
  });
}

/** A backend, and a gateway that passes everything on to it. */
async function start(world, name, lines = '') {
  const backend = await startBackend(world, name);
  const gateway = await world.gatewayWith(`
[listen.test]
address = "{listen}"

[admin]
address = "off"

[proxies.all]
path = "/{*rest}"
upstream = "${backend.url}"
${lines}
`);
  return { url: gateway.url, backend };
}
