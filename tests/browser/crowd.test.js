// A thousand plain clients before one example server.

import assert from 'node:assert/strict';

import { assertSameRun, assertUnbroken, countOf } from './support/events.js';
import { claim } from './support/world.js';

const N_CLIENTS = 1_000;

claim(`${N_CLIENTS} clients get every event over one connection to Express`, async (world) => {
  const origin = await world.origin('Express');
  const gateway = await world.gateway(origin);
  const reference = await world.steadyReader(gateway.url);

  const clients = Array.from({ length: N_CLIENTS }, () => world.reader(gateway.url));
  const without = (holds) => {
    const others = clients.filter((client) => !holds(client));
    return { nWithout: others.length, ended: [...new Set(others.map(({ ended }) => ended))] };
  };
  const isLive = (client) => client.events.length > 0;
  await world.until('every client gets events', () => clients.every(isLive), {
    state: () => without(isLive),
  });
  const last = countOf(reference.events.at(-1)) + 10;
  const hasLast = ({ events }) => countOf(events.at(-1)) >= last;
  await world.until(
    'every client gets ten events more',
    () => hasLast(reference) && clients.every(hasLast),
    { state: () => without(hasLast) },
  );
  assert.deepEqual(await origin.connections(), { now: 1, ever: 1 }, 'with all clients connected');

  for (const [index, client] of clients.entries()) {
    const who = `client ${index}`;
    assert.equal(client.ended, null, `${who} is connected`);
    assert.equal(client.status, 200, who);
    assert.match(client.headers['content-type'], /^text\/event-stream\b/, who);
    const events = client.events.filter((event) => countOf(event) <= last);
    assertUnbroken(events, who);
    assertSameRun(events, reference.events, who);
    assert.equal(countOf(events.at(-1)), last, who);
  }

  for (const client of clients) client.close();
  const nEvents = reference.events.length;
  await world.until('events go on when the crowd has left', () => {
    return reference.events.length >= nEvents + 5;
  });
  assert.deepEqual(await origin.connections(), { now: 1, ever: 1 }, 'when the crowd has left');
});
