// The gateway's file of an example, at addresses of a test, with short times and a short history.

import assert from 'node:assert/strict';

/** How many events the history holds, and for how long. */
export const HISTORY = { events: 20, age: '3s' };

/** What is said instead, in tables that may have said something else. */
const SETTINGS = {
  server: { drain: '"0s"' },
  defaults: {
    history: `{ events = ${HISTORY.events}, age = "${HISTORY.age}" }`,
    heartbeat: '"1s"',
    retry: '{ min = "100ms", max = "200ms" }',
    backoff: '{ first = "100ms", max = "300ms" }',
  },
};

/** `state` is the directory for what a stop leaves; `admin` where the process tells how it is. */
export function inTestingTimes(toml, backendUrl, state, admin = 'off') {
  const { host } = new URL(backendUrl);
  let changed = toml
    .replaceAll('127.0.0.1:8080', '{listen}')
    .replaceAll('127.0.0.1:3000', host)
    .replace(/^\[admin\][^[]*/m, '');
  assert.ok(changed.includes('{listen}') && changed.includes(host), toml);
  const settings = { ...SETTINGS, server: { ...SETTINGS.server, state: `"${state}"` } };
  for (const [table, keys] of Object.entries(settings)) {
    for (const key of Object.keys(keys)) changed = changed.replace(new RegExp(`^${key} = .*\\n`, 'gm'), '');
    const lines = Object.entries(keys).map(([key, value]) => `${key} = ${value}\n`);
    const header = `[${table}]\n`;
    if (!changed.includes(header)) changed += `\n${header}`;
    changed = changed.replace(header, () => header + lines.join(''));
  }
  return `${changed}\n[admin]\naddress = "${admin}"\n`;
}
