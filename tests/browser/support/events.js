// What the tests say about the events that a client got.

import assert from 'node:assert/strict';

/** The origin's own count, which every event of the examples carries. */
export function countOf(event) {
  return JSON.parse(event.data).n;
}

/** Whether the client has got this event of the origin's by now. */
export function hasGot(client, event) {
  return client.events.some(({ id }) => id === event.id);
}

/** Asserts that these are events of one run of the origin: each once, none left out, all with ids. */
export function assertUnbroken(events, who) {
  assert.ok(events.length > 0, `${who} got no event`);
  const first = countOf(events[0]);
  const expected = events.map((_, index) => first + index);
  assert.deepEqual(events.map(countOf), expected, `${who}: an event is missing, doubled or moved`);
  const ids = new Set(events.map((event) => event.id));
  assert.ok(!ids.has(''), `${who}: an event has no id`);
  assert.equal(ids.size, events.length, `${who}: two events have the same id`);
}

/** Asserts that the one got exactly what the other got between the first and last of its events. */
export function assertSameRun(events, reference, who) {
  const from = reference.findIndex((event) => event.id === events[0].id);
  assert.notEqual(from, -1, `${who} begins with an event that the uninterrupted reader never got`);
  assert.deepEqual(events, reference.slice(from, from + events.length), `${who} differs`);
}

/** Asserts that a gap of unknown size was told once, and gives the events before and after it. */
export function splitAtGap(events, who) {
  const notices = events.filter((event) => event.type !== 'message');
  const types = notices.map((event) => event.type);
  assert.deepEqual(types, ['ssecast.gap'], `${who} is told one gap and nothing else`);
  const [gap] = notices;
  assert.equal(JSON.parse(gap.data).missed, 'unknown', `${who}: the origin has no ids to count by`);
  const at = events.indexOf(gap);
  return { before: events.slice(0, at), after: events.slice(at + 1) };
}
