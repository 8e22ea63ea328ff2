// The service under a real systemd: start, status, reload, watchdog, certificates, stop, restart.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { attempt, run } from './support/container.js';
import { assertUnbroken, claim } from './support/world.js';

const DOCUMENT = new URL('../../docs/systemd.md', import.meta.url);

claim('systemctl start returns when clients can connect, and the status counts them', async (world) => {
  await world.origin();
  world.configure();
  await world.systemctl('start', 'ssecast');
  await Promise.all([world.reader(), world.reader(), world.reader()]);

  const { output } = await attempt('systemctl', 'status', '--no-pager', 'ssecast');
  assert.match(output, /Active: active \(running\)/);
  await world.until('the status counts channels and clients', async () => {
    return (await world.property('StatusText')) === '1 channel, 3 clients';
  }, { state: () => world.property('StatusText') });
});

claim('the service runs as its own user, without a capability', async (world) => {
  await world.origin();
  world.configure();
  await world.systemctl('start', 'ssecast');
  const status = await run('cat', `/proc/${await world.property('MainPID')}/status`);
  const uid = (await run('id', '-u', 'ssecast')).trim();
  assert.match(status, new RegExp(`^Uid:\\s+${uid}\\s+${uid}`, 'm'));
  for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
    assert.match(status, new RegExp(`^${set}:\\s+0+$`, 'm'));
  }
  assert.match(status, /^NoNewPrivs:\s+1$/m);
  assert.match(status, /^Seccomp:\s+2$/m);
});

claim('log lines reach the journal with a priority and without a second time', async (world) => {
  world.configure(); // There is no origin.
  await world.systemctl('start', 'ssecast');
  const failure = await world.logged(/connection refused/i);
  assert.equal(failure.PRIORITY, '4');
  const started = await world.logged(/^started /);
  assert.equal(started.PRIORITY, '6');
  for (const { MESSAGE, _COMM } of await world.journal()) {
    if (_COMM !== 'ssecast') continue;
    assert.doesNotMatch(MESSAGE, /\d\d:\d\d:\d\d|\x1b|^<\d>|INFO|WARN/);
  }
});

claim('a file that is wrong fails the start, and the journal says where', async (world) => {
  world.configure({ channel: 'heartbaet = "1s"' });
  const { code } = await attempt('systemctl', 'start', 'ssecast');
  assert.notEqual(code, 0);
  const diagnostic = await world.logged(/heartbaet/);
  assert.equal(diagnostic.PRIORITY, '3');
  await world.logged(/did you mean `heartbeat`|write `heartbeat`/);
  const picture = await world.logged(/\^\^\^/);
  assert.match(picture.MESSAGE, /^\s+\| \^/, 'the picture keeps its indentation');
});

claim('systemctl reload applies a changed file, and clients of other channels stay', async (world) => {
  await world.origin();
  world.configure();
  await world.systemctl('start', 'ssecast');
  const reader = await world.reader();
  const pid = await world.property('MainPID');

  const more = '[channels.more]\npath = "/more"\nupstream = "http://127.0.0.1:3000/events"\n';
  world.configure({ more });
  await world.systemctl('reload', 'ssecast');
  await world.reader('http://127.0.0.1:8080/more');
  await world.until('the status knows the new channel', async () => {
    return (await world.property('StatusText')).startsWith('2 channels');
  }, { state: () => world.property('StatusText') });

  assert.equal(await world.property('MainPID'), pid);
  assert.equal(reader.ended, null);
  assertUnbroken(reader.events, 'the client of the unchanged channel');
});

claim('systemctl reload fails for a file that is wrong, and the old configuration goes on', async (world) => {
  await world.origin();
  world.configure();
  await world.systemctl('start', 'ssecast');
  const reader = await world.reader();

  world.configure({ channel: 'heartbeat = "1 parsec"' });
  const { code } = await attempt('systemctl', 'reload', 'ssecast');
  assert.notEqual(code, 0);
  assert.equal(await world.property('ActiveState'), 'active');
  const diagnostic = await world.logged(/1 parsec/);
  assert.equal(diagnostic.PRIORITY, '3');

  const nEvents = reader.events.length;
  await world.until('the client gets events as before', () => reader.events.length > nEvents + 3);
  await world.reader();
  world.configure();
  await world.systemctl('reload', 'ssecast');
  assert.equal(reader.ended, null);
  assertUnbroken(reader.events, 'the client');
});

claim('SIGHUP with a file that is wrong leaves everything as it is and tells why', async (world) => {
  await world.origin();
  world.configure();
  await world.systemctl('start', 'ssecast');
  const reader = await world.reader();

  world.configure({ channel: 'heartbeat = "1 parsec"' });
  await world.systemctl('kill', '--signal=HUP', 'ssecast');
  const diagnostic = await world.logged(/1 parsec/);
  assert.equal(diagnostic.PRIORITY, '3');
  await world.until('the service is active again', async () => {
    return (await world.property('ActiveState')) === 'active';
  });
  await world.until('the status tells of it', async () => {
    return /reload was rejected/.test(await world.property('StatusText'));
  }, { state: () => world.property('StatusText') });
  assert.equal(reader.ended, null);
});

/** What `configure` is told for a listener with the certificate of `renewCertificate`. */
const SECURE = {
  listener: 'tls = { certificate = "/etc/ssecast/tls/chain.pem", key = "/etc/ssecast/tls/key.pem" }',
};
const SECURE_URL = 'https://localhost:8080/events';

claim('a renewed certificate is what new clients see, and those who are connected stay', async (world) => {
  await world.origin();
  const first = await world.renewCertificate();
  world.configure(SECURE);
  await world.systemctl('start', 'ssecast');
  const before = await world.reader(SECURE_URL, { ca: first });

  const second = await world.renewCertificate();
  // Nobody tells the gateway. Who trusts the second only is refused until it is there.
  const after = await world.readerOnceTrusted(SECURE_URL, { ca: second });
  assert.equal(before.ended, null);
  assertUnbroken(before.events, 'the client from before');
  assertUnbroken(after.events, 'the new client');
});

claim('a pair that does not fit changes nothing, and the journal tells of it', async (world) => {
  await world.origin();
  const ca = await world.renewCertificate();
  world.configure(SECURE);
  await world.systemctl('start', 'ssecast');
  const before = await world.reader(SECURE_URL, { ca });

  await world.deploy('key.pem', '-----BEGIN PRIVATE KEY-----\nbroken\n-----END PRIVATE KEY-----\n');
  await world.systemctl('kill', '--signal=HUP', 'ssecast');
  const told = await world.logged(/key\.pem/);
  assert.ok(told.PRIORITY <= 4, JSON.stringify(told));
  await world.reader(SECURE_URL, { ca });
  assert.equal(before.ended, null);
});

claim('a process that hangs is ended by the watchdog and started again', async (world) => {
  await world.origin();
  world.configure();
  await world.edit('ssecast.service', '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=2s\nRestartSec=100ms\n');
  await world.systemctl('start', 'ssecast');
  await world.reader();
  const pid = await world.property('MainPID');

  await run('kill', '-STOP', pid);
  await world.until('systemd has started it again', async () => {
    return (await world.property('NRestarts')) === '1' && (await world.property('SubState')) === 'running';
  }, { state: () => world.property('SubState') });
  assert.notEqual(await world.property('MainPID'), pid);
  await world.logged(/Watchdog timeout/);
  await world.reader();
});

claim('a process that works is left alone by the watchdog', async (world) => {
  await world.origin();
  world.configure();
  await world.edit('ssecast.service', '[Service]\nWatchdogSec=500ms\n');
  await world.systemctl('start', 'ssecast');
  const reader = await world.reader();
  // Four times as long as systemd waits.
  await world.until('the client gets 40 events', () => reader.events.length > 40);
  assert.equal(await world.property('NRestarts'), '0');
});

claim('systemctl stop ends clients between events, within the drain', async (world) => {
  await world.origin();
  world.configure();
  await world.systemctl('start', 'ssecast');
  const readers = await Promise.all(Array.from({ length: 20 }, () => world.reader()));

  await world.systemctl('stop', 'ssecast');
  await world.until('every client is told the end', () => readers.every(({ ended }) => ended));
  assert.equal(await world.property('Result'), 'success');
  assert.equal(await world.property('ExecMainStatus'), '0');
  for (const reader of readers) {
    assertUnbroken(reader.events, 'a client');
    assert.ok(reader.retry > 0, 'a client is told when to come back');
  }
});

claim('a restart with socket activation refuses no connection, and clients miss nothing', async (world) => {
  await world.origin();
  world.configure({ address: 'systemd:http' });
  await world.edit('ssecast.socket', '[Socket]\nListenStream=\nListenStream=8080\n');
  await world.systemctl('start', 'ssecast.socket');
  assert.equal(await world.property('ActiveState'), 'inactive', 'nobody has connected yet');

  const clients = Array.from({ length: 20 }, () => world.returningClient());
  const all = (holds) => () => clients.every(holds);
  await world.until('the first connection has started the service', all(({ events }) => events.length > 5));
  const before = clients.map(({ events }) => events.length);
  await world.systemctl('restart', 'ssecast.service');
  await world.until('all get events again', all(({ events }, index) => events.length > before[index] + 20), {
    state: () => clients.map(({ events, nConnections }) => [events.length, nConnections]),
  });
  for (const client of clients) {
    assert.deepEqual(client.refusals, []);
    assert.ok(client.nConnections > 1, 'it was there before and after');
    assertUnbroken(client.events, 'a client');
  }
});

claim('a socket that nobody has the name of is told at the start', async (world) => {
  world.configure({ address: 'systemd:web' });
  await world.systemctl('start', 'ssecast.socket');
  const { code } = await attempt('systemctl', 'start', 'ssecast.service');
  assert.notEqual(code, 0);
  const told = await world.logged(/no inherited socket has the name `web`; there are `http`/);
  assert.equal(told.PRIORITY, '3');
});

claim('the socket unit as it is shipped serves port 80', async (world) => {
  await world.origin();
  world.configure({ address: 'systemd:http' });
  await world.systemctl('start', 'ssecast.socket');
  await world.reader('http://127.0.0.1/events');
});

claim('a port below 1024 needs a capability, which the documented drop-in gives', async (world) => {
  await world.origin();
  world.configure({ address: '127.0.0.1:81' });
  const { code } = await attempt('systemctl', 'start', 'ssecast');
  assert.notEqual(code, 0);
  await world.logged(/CAP_NET_BIND_SERVICE/);
  await world.systemctl('stop', 'ssecast');

  await world.edit('ssecast.service', documented('AmbientCapabilities='));
  await world.systemctl('start', 'ssecast');
  await world.reader('http://127.0.0.1:81/events');
});

claim('certificates by LoadCredential= work as documented, and the check says what that means', async (world) => {
  await world.origin();
  const ca = await world.renewCertificate();
  await run('chown', '-R', 'root:root', '/etc/ssecast/tls');
  const credentials = '/run/credentials/ssecast.service';
  world.configure({
    listener: `tls = { certificate = "${credentials}/chain.pem", key = "${credentials}/key.pem" }`,
  });
  const load = ['chain.pem', 'key.pem'].map((name) => `LoadCredential=${name}:/etc/ssecast/tls/${name}\n`);
  await world.edit('ssecast.service', `[Service]\n${load.join('')}`);
  await world.systemctl('start', 'ssecast');
  await world.reader(SECURE_URL, { ca });
  assert.match(await run('ssecast', 'check', '/etc/ssecast/ssecast.toml'), /restart the service after each renewal/);
});

/** The drop-in of docs/systemd.md that has this setting. */
function documented(setting) {
  const blocks = fs.readFileSync(DOCUMENT, 'utf8').matchAll(/^```ini\n(.*?)^```$/gms);
  const found = [...blocks].map(([, text]) => text).filter((text) => text.includes(setting));
  assert.equal(found.length, 1, `drop-ins with ${setting}`);
  return found[0];
}
