// HTTP/2 as its users meet it: Chromium, curl and h2load.

import assert from 'node:assert/strict';

import { assertSameRun, assertUnbroken, hasGot } from './support/events.js';
import { claim } from './support/world.js';

/** Chromium opens at most six connections of HTTP/1.1 to an origin; a seventh stream would wait. */
const N_SOURCES = 20;

claim('a page has more than six streams from one origin over TLS', async (world) => {
  const origin = await world.origin('Express');
  const gateway = await world.secureGateway(origin);
  const page = await world.page(gateway.url, { nSources: N_SOURCES });
  await world.until(
    'every source gets events',
    async () => (await page.lookAtAll()).every(({ events }) => events.length >= 5),
    { state: page.lookAtAll },
  );
  const sources = await page.lookAtAll();
  assert.equal(sources.length, N_SOURCES);
  for (const { events, nErrors, nOpened } of sources) {
    assertUnbroken(events, 'a source');
    assert.deepEqual({ nErrors, nOpened }, { nErrors: 0, nOpened: 1 });
  }
  assert.deepEqual(await origin.connections(), { now: 1, ever: 1 });
});

for (const { kind, start, args } of [
  { kind: 'in the clear', start: 'gateway', args: ['--http2-prior-knowledge'] },
  { kind: 'over TLS', start: 'secureGateway', args: ['--http2', '--insecure'] },
]) {
  claim(`curl resumes by HTTP/2 ${kind} and has missed nothing`, async (world) => {
    const origin = await world.origin('Express');
    const gateway = await world[start](origin);
    // Says on standard error which version it was, and fails with a status that is an error.
    const options = ['--fail', '--verbose', ...args];
    const first = world.curl(gateway.url, { args: options });
    await world.until('curl gets events', () => first.events.length >= 5, {
      state: () => first.child.log,
    });
    await first.child.stop();
    assert.ok(
      first.child.log.some((line) => line.startsWith('< HTTP/2 200')),
      first.child.log.join('\n'),
    );
    const lastSeen = first.events.at(-1);
    const second = world.curl(gateway.url, { args: options, lastEventId: lastSeen.id });
    const whole = world.curl(gateway.url, { args: options, lastEventId: first.events[0].id });
    await world.until(
      'curl gets what it missed, and live events',
      () => second.events.length >= 10 && hasGot(whole, second.events.at(-1)),
      { state: () => ({ events: second.events, log: second.child.log }) },
    );
    const events = [...first.events, ...second.events];
    assertUnbroken(events, 'curl');
    assertSameRun(events.slice(1), whole.events, 'curl');
  });
}

claim('h2load gets thousands of answers while streams go on', async (world) => {
  const origin = await world.origin('Express');
  const gateway = await world.gateway(origin);
  const reader = world.curl(gateway.url, { args: ['--http2-prior-knowledge'] });
  await world.until('curl gets events', () => reader.events.length >= 2, {
    state: () => reader.child.log,
  });
  const requests = ['-n', '5000', '-c', '5', '-m', '50', '-H', ':method: OPTIONS'];
  const report = await world.command('h2load', [...requests, gateway.url]);
  assert.match(report, /5000 succeeded, 0 failed, 0 errored, 0 timeout/, report);
  assert.match(report, /status codes: 5000 2xx/, report);
  const nEvents = reader.events.length;
  await world.until('curl gets more events', () => reader.events.length >= nEvents + 2);
  assertUnbroken(reader.events, 'curl');
});
