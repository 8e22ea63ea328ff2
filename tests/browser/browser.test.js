// A real EventSource, in Chromium, on a page of another origin than the gateway's.

import assert from 'node:assert/strict';

import { assertSameRun, assertUnbroken, countOf, hasGot, splitAtGap } from './support/events.js';
import { ORIGINS, claim } from './support/world.js';

const OPEN = 1; // EventSource.OPEN

for (const name of Object.keys(ORIGINS)) {
  claim(`a page before ${name} that is cut off reconnects and has missed nothing`, async (world) => {
    const origin = await world.origin(name);
    const gateway = await world.gateway(origin);
    const reference = await world.steadyReader(gateway.url);
    const cable = await world.cable(gateway);
    const page = await world.page(`http://127.0.0.1:${cable.port}/events`);

    await world.until('the page gets events', async () => (await page.look()).events.length >= 5, {
      state: page.look,
    });
    cable.cut();
    const nAtCut = reference.events.length;
    await world.until('the page notices the cut', async () => (await page.look()).nErrors > 0, {
      state: page.look,
    });
    const lastBeforeCut = (await page.look()).events.at(-1);
    await world.until('the gateway gets events meanwhile, and the page tries in vain', () => {
      return reference.events.length >= nAtCut + 5 && cable.nTurnedAway > 0;
    });
    cable.mend();
    const lastMissed = reference.events.at(-1);
    await world.until(
      'the page is connected again and gets live events',
      async () => countOf((await page.look()).events.at(-1)) >= countOf(lastMissed) + 5,
      { state: page.look },
    );

    const { events, nOpened } = await page.look();
    await world.until('the uninterrupted reader has got what the page got', () => {
      return hasGot(reference, events.at(-1));
    });
    assertUnbroken(events, 'the page');
    assertSameRun(events, reference.events, 'the page');
    assert.equal(nOpened, 2, 'the page was connected twice');
    assert.ok(countOf(lastMissed) >= countOf(lastBeforeCut) + 5, 'the cut was long enough to tell');
    const resumed = new RegExp(`^last-event-id: ${lastBeforeCut.id}$`, 'im');
    assert.match(cable.requests.at(-1), resumed, 'the page came back with the id it had');
    assert.equal(reference.ended, null, 'the other subscriber never noticed');
    assert.deepEqual(await origin.connections(), { now: 1, ever: 1 });
  });

  claim(`a page before ${name} is told the gap when ${name} is restarted`, async (world) => {
    const origin = await world.origin(name);
    const gateway = await world.quickGateway(origin);
    const reference = await world.steadyReader(gateway.url);
    const page = await world.page(gateway.url);
    await world.until('the page gets events', async () => (await page.look()).events.length >= 5, {
      state: page.look,
    });

    await origin.stop();
    const nComments = reference.comments.length;
    await world.until(
      'heartbeats go on while the origin is away',
      () => reference.comments.length >= nComments + 2,
      { state: () => ({ ended: reference.ended, comments: reference.comments }) },
    );
    const { readyState } = await page.look();
    assert.equal(readyState, OPEN, 'the page stays connected while the origin is away');

    await origin.start();
    const isBack = ({ events }) => {
      const gap = events.findIndex((event) => event.type === 'ssecast.gap');
      return gap >= 0 && events.length >= gap + 5;
    };
    await world.until('the page is told the gap, then gets events', async () => isBack(await page.look()), {
      state: page.look,
    });

    const { events, nOpened, nErrors } = await page.look();
    assert.deepEqual({ nOpened, nErrors }, { nOpened: 1, nErrors: 0 }, 'the page stayed connected');
    const { before, after } = splitAtGap(events, 'the page');
    assertUnbroken(before, 'the page before the gap');
    assertUnbroken(after, 'the page after the gap');
    if (name === 'FastAPI') {
      // It counts from 1 for every connection, so what it repeats looks like what is in the log.
      assert.equal(countOf(after[0]), 1, 'an origin that counts from 1 again loses nothing');
    }
    await world.until('the uninterrupted reader has got what the page got', () => {
      return hasGot(reference, events.at(-1));
    });
    assertSameRun(events, reference.events, 'the page');
    assert.equal(reference.ended, null, 'the other subscriber never noticed');
    assert.deepEqual(await origin.connections(), { now: 1, ever: 1 });
  });
}
