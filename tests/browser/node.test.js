// examples/node: a backend on Node's `http` module, and a page without a framework.

import assert from 'node:assert/strict';

import { commandsOf } from './support/documents.js';
import { NodeSite } from './support/node-site.js';
import { claimAll } from './support/scenarios.js';
import { claim } from './support/world.js';

claimAll('a page without React', (world) => NodeSite.start(world));

claim("the commands in examples/node's README show what they say", async (world) => {
  const site = await NodeSite.start(world);
  const [stream, state, put, connections] = commandsOf('examples/node/README.md', site.gateway.url);
  const run = (command) => world.command('sh', ['-c', command]);
  const curl = world.child('curl', 'sh', ['-c', `exec ${stream}`]);
  await world.until('the stream is open', async () => JSON.parse(await run(connections)).now === 1);
  assert.deepEqual(Object.keys(JSON.parse(await run(put))), ['seq']);
  await curl.logged('shows the change', /^data: \{"symbol":"ACME","price":12\.5\}$/);
  const { rows } = JSON.parse(await run(state));
  assert.ok(rows.some(({ symbol, price }) => symbol === 'ACME' && price === 12.5), JSON.stringify(rows));
  assert.deepEqual(JSON.parse(await run(connections)), { now: 1, ever: 1 });
});
