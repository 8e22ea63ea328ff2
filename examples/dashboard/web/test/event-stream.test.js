import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { EventStream } from '../src/live/event-stream.js';
import { FakeEventSource } from './fake-event-source.js';

beforeEach(() => FakeEventSource.install());

/** A stream that is open, with what it said. */
function opened(t) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  const events = [];
  const losses = [];
  const stream = new EventStream('/events', { types: ['price'] });
  const stop = stream.listen({
    onEvent: (event) => events.push(event),
    onLoss: (reason) => losses.push(reason),
  });
  FakeEventSource.newest.open();
  return { stream, stop, events, losses };
}

test('there is one EventSource, as long as somebody listens', (t) => {
  const { stream, stop } = opened(t);
  const stopOther = stream.listen({});
  assert.equal(FakeEventSource.made.length, 1);
  stop();
  stop();
  assert.equal(FakeEventSource.nOpen, 1);
  stopOther();
  assert.equal(FakeEventSource.nOpen, 0);
  assert.equal(stream.status.state, 'closed');
});

test('events come parsed, with their ids', (t) => {
  const { stream, events } = opened(t);
  FakeEventSource.newest.change(7, { symbol: 'MOSS' });
  assert.deepEqual(events, [{ type: 'price', id: '7', data: { version: 7, symbol: 'MOSS' } }]);
  assert.equal(stream.status.lastEventId, '7');
});

test('one that gave up is followed by another, which goes on where it was', (t) => {
  const { stream, losses } = opened(t);
  FakeEventSource.newest.change(7);
  FakeEventSource.newest.giveUp();
  assert.equal(stream.status.state, 'reconnecting');
  assert.equal(FakeEventSource.made.length, 1, 'not at once');
  t.mock.timers.tick(1_000);
  assert.equal(FakeEventSource.newest.url, '/events?last_event_id=7');
  FakeEventSource.newest.open();
  assert.equal(stream.status.state, 'live');
  assert.deepEqual(losses, ['begun anew'], 'that of the beginning, and none since');
});

test('it waits longer each time, and as before when it was well', (t) => {
  opened(t);
  const failures = (ms) => {
    const n = FakeEventSource.made.length;
    FakeEventSource.newest.giveUp();
    t.mock.timers.tick(ms);
    return FakeEventSource.made.length - n;
  };
  assert.equal(failures(1_000), 1);
  assert.equal(failures(2_000), 1);
  assert.equal(failures(4_000), 1);
  assert.equal(failures(3_900), 0, 'the fourth wait is 4 to 8 seconds');
  t.mock.timers.tick(4_100);
  FakeEventSource.newest.open();
  FakeEventSource.newest.change(8);
  assert.equal(failures(1_000), 1);
});

test('after a break it is whole again if it could resume, and else begins an epoch', (t) => {
  const { stream } = opened(t);
  assert.equal(stream.epoch, 1);
  FakeEventSource.newest.break();
  FakeEventSource.newest.open();
  assert.equal(stream.epoch, 2, 'nothing was seen yet, so nothing could be resumed from');
  FakeEventSource.newest.change(7);
  FakeEventSource.newest.break();
  FakeEventSource.newest.open();
  assert.equal(stream.epoch, 2, 'the browser said where it was');
});

for (const type of ['ssecast.reset', 'ssecast.gap', 'reset']) {
  test(`${type} begins an epoch`, (t) => {
    const { stream, losses } = opened(t);
    FakeEventSource.newest.send(type, { reason: 'expired' });
    assert.equal(stream.epoch, 2);
    assert.match(losses.at(-1), /expired/);
  });
}

test('a notice without an id does not move where it is', (t) => {
  const { stream } = opened(t);
  FakeEventSource.newest.change(7);
  FakeEventSource.newest.send('ssecast.gap', {});
  assert.equal(stream.status.lastEventId, '7');
});

test('an event that can’t be read is a loss, and the others come', (t) => {
  const { stream, events } = opened(t);
  FakeEventSource.newest.send('price', '{', '8');
  FakeEventSource.newest.change(9);
  assert.equal(stream.epoch, 2);
  assert.equal(events.length, 1);
});

test('silence for longer than two heartbeats is a broken connection', (t) => {
  opened(t);
  FakeEventSource.newest.send('heartbeat', { interval_ms: 10_000 });
  FakeEventSource.newest.change(7);
  t.mock.timers.tick(20_000);
  assert.equal(FakeEventSource.made.length, 1);
  t.mock.timers.tick(4_000);
  assert.equal(FakeEventSource.newest.url, '/events?last_event_id=7');
  assert.equal(FakeEventSource.nOpen, 1);
});

test('a laptop that slept comes back as soon as it wakes', (t) => {
  opened(t);
  FakeEventSource.newest.send('heartbeat', { interval_ms: 10_000 });
  t.mock.timers.setTime(Date.now() + 3_600_000); // no timer has run meanwhile
  t.mock.timers.tick(2_000);
  assert.equal(FakeEventSource.made.length, 2);
  assert.equal(FakeEventSource.nOpen, 1);
});

test('cut, it stays cut until it is mended, and then goes on where it was', (t) => {
  const { stream } = opened(t);
  FakeEventSource.newest.change(7);
  stream.cut();
  t.mock.timers.tick(600_000);
  assert.equal(FakeEventSource.nOpen, 0);
  assert.equal(stream.status.state, 'cut');
  stream.mend();
  assert.equal(FakeEventSource.newest.url, '/events?last_event_id=7');
  FakeEventSource.newest.open();
  assert.equal(stream.epoch, 1);
});

test('the state of the backend is shown', (t) => {
  const { stream } = opened(t);
  FakeEventSource.newest.send('ssecast.upstream', { state: 'down' });
  assert.equal(stream.status.upstream, 'down');
});

test('an upstream that begins before there was an event begins an epoch', (t) => {
  const { stream } = opened(t);
  const upstream = (state) => FakeEventSource.newest.send('ssecast.upstream', { state });
  upstream('live');
  assert.equal(stream.epoch, 1, 'it was there before us');
  upstream('down');
  upstream('live');
  assert.equal(stream.epoch, 2);
  FakeEventSource.newest.change(7);
  upstream('down');
  upstream('connecting');
  upstream('live');
  assert.equal(stream.epoch, 2, 'the gateway resumes, or tells');
  FakeEventSource.newest.send('ssecast.reset', { reason: 'unknown' });
  upstream('down');
  upstream('live');
  assert.equal(stream.epoch, 4);
});
