// curl, as a person at a terminal uses it: `curl -N`, and resuming by hand.

import assert from 'node:assert/strict';

import { assertSameRun, assertUnbroken, hasGot, splitAtGap } from './support/events.js';
import { ORIGINS, claim } from './support/world.js';

for (const name of Object.keys(ORIGINS)) {
  claim(`curl before ${name} resumes with Last-Event-ID and has missed nothing`, async (world) => {
    const origin = await world.origin(name);
    const gateway = await world.gateway(origin);
    const reference = await world.steadyReader(gateway.url);

    const first = world.curl(gateway.url);
    await world.until('curl gets events', () => first.events.length >= 5, {
      state: () => first.child.log,
    });
    await first.child.stop();
    const lastSeen = first.events.at(-1);
    const nMeanwhile = reference.events.length + 5;
    await world.until('events are sent meanwhile', () => reference.events.length >= nMeanwhile);
    const lastMissed = reference.events.at(-1);

    const second = world.curl(gateway.url, { lastEventId: lastSeen.id });
    await world.until(
      'curl gets what it missed, then live events',
      () => hasGot(second, lastMissed) && second.events.length >= 10,
      { state: () => ({ events: second.events, log: second.child.log }) },
    );
    await second.child.stop();

    const events = [...first.events, ...second.events];
    await world.until('the uninterrupted reader has got what curl got', () => {
      return hasGot(reference, events.at(-1));
    });
    assertUnbroken(events, 'curl');
    assertSameRun(events, reference.events, 'curl');
    assert.deepEqual(await origin.connections(), { now: 1, ever: 1 });
  });

  claim(`two curls before ${name} stay connected when ${name} is restarted`, async (world) => {
    const origin = await world.origin(name);
    const gateway = await world.quickGateway(origin);
    const curls = [world.curl(gateway.url), world.curl(gateway.url)];
    const all = (holds) => () => curls.every(holds);
    const state = () => curls.map(({ events, comments }) => ({ events, comments }));
    await world.until('both get events', all(({ events }) => events.length >= 5), { state });

    await origin.stop();
    const nComments = curls.map(({ comments }) => comments.length);
    await world.until(
      'both get heartbeats while the origin is away',
      all(({ comments }, index) => comments.length >= nComments[index] + 2),
      { state },
    );
    const nEvents = curls.map(({ events }) => events.length);
    await origin.start();
    await world.until(
      'both get events again',
      all(({ events }, index) => events.length >= nEvents[index] + 5),
      { state },
    );

    for (const { events, comments } of curls) {
      const { before, after } = splitAtGap(events, 'curl');
      assertUnbroken(before, 'curl before the gap');
      assertUnbroken(after, 'curl after the gap');
      assert.deepEqual(new Set(comments), new Set(['']), 'a heartbeat is a colon and nothing else');
    }
    assert.deepEqual(await origin.connections(), { now: 1, ever: 1 });
  });
}

claim('curl that resumes from before a restart is told the gap in its place', async (world) => {
  const origin = await world.origin('Express');
  const gateway = await world.quickGateway(origin);
  const reference = await world.steadyReader(gateway.url);
  const [{ id: lastEventId }] = reference.events;

  await origin.stop();
  await origin.start();
  const isBack = ({ events }) => {
    const gap = events.findIndex(({ type }) => type === 'ssecast.gap');
    return gap >= 0 && events.length >= gap + 3;
  };
  await world.until('events are sent again', () => isBack(reference), {
    state: () => reference.events,
  });

  const curl = world.curl(gateway.url, { lastEventId });
  await world.until('curl gets both runs', () => isBack(curl), { state: () => curl.events });
  const { before, after } = splitAtGap(curl.events, 'curl');
  const expected = splitAtGap(reference.events, 'the uninterrupted reader');
  assert.deepEqual(before, expected.before.slice(1), 'first the rest of the first run');
  assertUnbroken(after, 'curl after the gap');
  assert.equal(after[0].id, expected.after[0].id, 'then the second run from its first event');
});

claim('curl that resumes with an id nobody gave is told a reset, then gets the history', async (world) => {
  const origin = await world.origin('Express');
  const gateway = await world.quickGateway(origin);
  const reference = await world.steadyReader(gateway.url);
  const nHistory = reference.events.length;

  const curl = world.curl(gateway.url, { lastEventId: 'nobody-gave-this' });
  await world.until('curl gets events', () => curl.events.length > nHistory + 5, {
    state: () => curl.events,
  });
  const [reset, ...events] = curl.events;
  assert.equal(reset.type, 'ssecast.reset');
  assert.ok(JSON.parse(reset.data).reason, `the reset gives a reason: ${reset.data}`);
  assertUnbroken(events, 'curl');
  const from = events.findIndex(({ id }) => id === reference.events[0].id);
  assert.notEqual(from, -1, 'the retained history is sent, from its beginning');
});
