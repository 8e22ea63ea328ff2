import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';

import { QueryClient, QueryObserver } from '@tanstack/react-query';

import { EventStream } from '../src/live/event-stream.js';
import { liveQuery } from '../src/live/live-query.js';
import { FakeEventSource } from './fake-event-source.js';

beforeEach(() => FakeEventSource.install());

const KEY = ['sum'];

/** The state is the list of all changes that are in it: so what is missing or doubled is seen. */
const handlers = {
  price: (data, { version }) => ({ ...data, changes: [...data.changes, version] }),
};

const upTo = (version) => ({ version, changes: Array.from({ length: version }, (_, i) => i + 1) });

/** A page with this query, whose fetches the test answers. */
class World {
  client = new QueryClient();
  stream = new EventStream('/events', { types: ['price', 'other'] });
  fetches = [];

  constructor(t) {
    t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
    this.timers = t.mock.timers;
    t.after(() => this.client.clear());
  }

  /** What `useLiveQuery` does, when a component mounts; gives how to unmount. */
  mount() {
    const query = liveQuery(this.client, this.stream, KEY);
    query.handlers = handlers;
    const release = query.hold();
    query.check();
    const observer = new QueryObserver(this.client, {
      queryKey: KEY,
      queryFn: (context) => query.fetch(({ signal }) => this.#fetch(signal), context),
      staleTime: Infinity,
      retry: true,
      retryDelay: 100,
    });
    const unsubscribe = observer.subscribe(() => {});
    return () => {
      unsubscribe();
      release();
    };
  }

  #fetch(signal) {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      this.fetches.push({ answer: resolve, fail: () => reject(new Error('no')), signal });
    });
  }

  get source() {
    return FakeEventSource.newest;
  }

  get data() {
    return this.client.getQueryData(KEY)?.changes.join(' ');
  }

  async settle(ms = 0) {
    this.timers.tick(ms);
    for (let i = 0; i < 5; i += 1) {
      await setImmediate();
      this.timers.tick(0);
    }
  }

  /** Mounted, the stream open, the state fetched. */
  static async live(t, version = 3) {
    const world = new World(t);
    world.unmount = world.mount();
    world.source.open();
    await world.settle();
    world.fetches[0].answer(upTo(version));
    await world.settle();
    return world;
  }
}

test('the state is fetched once the stream is open', async (t) => {
  const world = new World(t);
  world.mount();
  await world.settle();
  assert.equal(world.fetches.length, 0);
  world.source.open();
  await world.settle();
  assert.equal(world.fetches.length, 1);
  world.fetches[0].answer(upTo(3));
  await world.settle();
  assert.equal(world.data, '1 2 3');
});

test('without a stream the state is shown all the same, and fetched again once there is one', async (t) => {
  const world = new World(t);
  world.mount();
  await world.settle(2_000);
  world.fetches[0].answer(upTo(3));
  await world.settle();
  assert.equal(world.data, '1 2 3');
  world.source.open();
  await world.settle();
  world.fetches[1].answer(upTo(5));
  await world.settle();
  assert.equal(world.data, '1 2 3 4 5');
});

test('an event is applied', async (t) => {
  const world = await World.live(t);
  world.source.change(4);
  assert.equal(world.data, '1 2 3 4');
});

test('events that come during the first fetch are neither lost nor doubled', async (t) => {
  const world = new World(t);
  world.mount();
  world.source.open();
  await world.settle();
  for (const version of [2, 3, 4, 5]) world.source.change(version);
  world.fetches[0].answer(upTo(3)); // it was read when 3 was the newest
  await world.settle();
  assert.equal(world.data, '1 2 3 4 5');
});

test('the answer of a later fetch does not undo events that it does not know', async (t) => {
  const world = await World.live(t);
  world.client.invalidateQueries({ queryKey: KEY });
  await world.settle();
  world.source.change(4);
  world.source.change(5);
  assert.equal(world.data, '1 2 3 4 5', 'shown at once');
  world.fetches[1].answer(upTo(4));
  await world.settle();
  assert.equal(world.data, '1 2 3 4 5');
  world.source.change(6);
  assert.equal(world.data, '1 2 3 4 5 6');
});

test('what a replay repeats is not applied again', async (t) => {
  const world = await World.live(t);
  for (const version of [2, 3, 4]) world.source.change(version);
  assert.equal(world.data, '1 2 3 4');
});

test('after a loss the state is fetched again', async (t) => {
  const world = await World.live(t);
  world.source.send('ssecast.reset', { reason: 'expired' });
  await world.settle();
  assert.equal(world.fetches.length, 2);
  world.source.change(9);
  world.fetches[1].answer(upTo(8));
  await world.settle();
  assert.equal(world.data, '1 2 3 4 5 6 7 8 9');
});

test('a loss in the middle of a fetch makes it begin again', async (t) => {
  const world = new World(t);
  world.mount();
  world.source.open();
  await world.settle();
  world.source.send('ssecast.gap', { missed: 'unknown' });
  world.fetches[0].answer(upTo(3));
  await world.settle();
  assert.equal(world.data, undefined, 'it may lack what was missed');
  world.fetches[1].answer(upTo(5));
  await world.settle();
  assert.equal(world.data, '1 2 3 4 5');
});

test('a fetch that fails after a loss is tried until it does not, whatever events come', async (t) => {
  const world = await World.live(t);
  world.source.send('ssecast.gap', { missed: 'unknown' });
  await world.settle();
  for (let i = 1; i < 8; i += 1) {
    world.fetches[i].fail();
    world.source.change(10 + i);
    await world.settle();
    await world.settle(100);
  }
  world.fetches[8].answer(upTo(18));
  await world.settle();
  assert.equal(world.data, upTo(18).changes.join(' '));
});

test('a database that began anew is believed', async (t) => {
  const world = await World.live(t, 9);
  world.source.send('reset', { version: 2 }, '2');
  await world.settle();
  world.fetches[1].answer(upTo(2));
  await world.settle();
  world.source.change(3);
  assert.equal(world.data, '1 2 3');
});

test('mounted twice, as StrictMode does, it goes on as if nothing had happened', async (t) => {
  const world = await World.live(t);
  world.unmount();
  world.mount();
  await world.settle(60_000);
  assert.equal(world.fetches.length, 1);
  assert.equal(FakeEventSource.nOpen, 1);
});

test('two components with the same query apply an event once', async (t) => {
  const world = await World.live(t);
  world.mount();
  world.source.change(4);
  await world.settle();
  assert.equal(world.data, '1 2 3 4');
  assert.equal(world.fetches.length, 1);
});

test('who comes back after the stream was closed gets the state anew', async (t) => {
  const world = await World.live(t);
  world.unmount();
  world.source.change(4);
  assert.equal(world.data, '1 2 3 4', 'kept fresh for a moment');
  await world.settle(5_000);
  assert.equal(FakeEventSource.nOpen, 0);

  world.mount();
  world.source.open();
  await world.settle();
  assert.equal(world.fetches.length, 2);
  world.fetches[1].answer(upTo(6));
  await world.settle();
  assert.equal(world.data, '1 2 3 4 5 6');
});

test('a state that somebody else put into the cache is not trusted', async (t) => {
  const world = new World(t);
  world.client.setQueryData(KEY, upTo(2));
  world.mount();
  world.source.open();
  await world.settle();
  world.fetches[0].answer(upTo(4));
  await world.settle();
  assert.equal(world.data, '1 2 3 4');
});

test('events of other types leave the state the same object', async (t) => {
  const world = await World.live(t);
  const before = world.client.getQueryData(KEY);
  world.source.send('other', { version: 4 }, '4');
  assert.equal(world.client.getQueryData(KEY), before);
});
