import assert from 'node:assert/strict';
import { test } from 'node:test';

import { applyNotification } from '../src/notifications.js';
import { applyPrice } from '../src/prices.js';

const row = (id, version = id) => ({ id, version, read_at: null });
const ids = ({ notifications }) => notifications.map(({ id }) => id).join(' ');

test('a price changes its row, and no other', () => {
  const before = {
    prices: [
      { symbol: 'A', version: 1, price: 5, recent: [5] },
      { symbol: 'B', version: 2, price: 7, recent: [7] },
    ],
  };
  const after = applyPrice(before, { symbol: 'A', version: 3, price: 6 });
  assert.deepEqual(after.prices[0], { symbol: 'A', version: 3, price: 6, recent: [5, 6] });
  assert.equal(after.prices[1], before.prices[1]);
});

test('a price that is older than its row changes nothing', () => {
  const before = { prices: [{ symbol: 'A', version: 4, price: 5, recent: [5] }] };
  assert.equal(
    applyPrice(before, { symbol: 'A', version: 3, price: 6 }).prices[0],
    before.prices[0],
  );
});

test('a new notification comes first', () => {
  assert.equal(ids(applyNotification({ notifications: [row(2), row(1)] }, row(3))), '3 2 1');
});

test('the answer and the event of one change are one change, whichever comes first', () => {
  const before = { notifications: [row(2), row(1)] };
  const read = { ...row(1, 5), read_at: 'now' };
  const after = applyNotification(before, read);
  assert.equal(after.notifications[1].read_at, 'now');
  assert.equal(applyNotification(after, read), after);
  assert.equal(applyNotification(after, row(1)), after, 'an older one changes nothing');
});

test('fifty are kept, and an old one that changes does not push a newer one out', () => {
  const full = { notifications: Array.from({ length: 50 }, (_, i) => row(100 - i)) };
  assert.equal(applyNotification(full, row(3, 200)).notifications.at(-1).id, 51);
  assert.equal(applyNotification(full, row(101)).notifications.length, 50);
});
