// The package: what a fresh installation does, an upgrade keeps, and a purge leaves.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { NEXT_PACKAGE, attempt, hostPath, install, run, write } from './support/container.js';
import { assertUnbroken, claim } from './support/world.js';

claim('a fresh installation starts nothing, and its configuration is one to start with', async (world) => {
  assert.equal(await world.property('ActiveState'), 'inactive');
  assert.equal(await world.property('UnitFileState'), 'disabled');
  assert.match(await run('ssecast', 'check', '/etc/ssecast/ssecast.toml'), /fine: 1 channel/);

  const mode = async (path) => (await run('stat', '--format=%U:%G %a', path)).trim();
  assert.equal(await mode('/etc/ssecast/ssecast.toml'), 'root:ssecast 640');
  assert.equal(await mode('/etc/ssecast/tls'), 'root:ssecast 750');
  for (const file of [
    '/usr/share/man/man1/ssecast.1.gz',
    '/usr/share/man/man1/ssecast-serve.1.gz',
    '/usr/share/bash-completion/completions/ssecast',
    '/usr/share/zsh/vendor-completions/_ssecast',
    '/usr/share/fish/vendor_completions.d/ssecast.fish',
    '/usr/share/doc/ssecast/copyright',
    '/usr/share/doc/ssecast/changelog.Debian.gz',
    '/usr/share/doc/ssecast/ssecast.toml',
  ]) {
    assert.ok(fs.statSync(hostPath(file)).size > 0, file);
  }
  await world.origin();
  await world.systemctl('enable', '--now', 'ssecast');
  await world.reader();
});

claim('an upgrade restarts the service, keeps the configuration, and clients miss nothing', async (world) => {
  await world.origin();
  world.configure({ address: 'systemd:http' });
  await world.edit('ssecast.socket', '[Socket]\nListenStream=\nListenStream=8080\n');
  await world.systemctl('enable', '--now', 'ssecast.socket');
  await world.systemctl('enable', 'ssecast');
  const configuration = fs.readFileSync(hostPath('/etc/ssecast/ssecast.toml'), 'utf8');
  const clients = Array.from({ length: 10 }, () => world.returningClient());
  const all = (holds) => () => clients.every(holds);
  await world.until('clients get events', all(({ events }) => events.length > 5));
  const [pid, socket] = [await world.property('MainPID'), await world.property('ActiveEnterTimestampMonotonic', 'ssecast.socket')];

  await install(NEXT_PACKAGE);
  assert.match(await run('dpkg-query', '--show', '--showformat=${Status} ${Version}', 'ssecast'), /^install ok installed .*next/);
  await world.until('another process serves', async () => {
    return (await world.property('SubState')) === 'running' && (await world.property('MainPID')) !== pid;
  });
  assert.equal(fs.readFileSync(hostPath('/etc/ssecast/ssecast.toml'), 'utf8'), configuration);
  assert.equal(await world.property('UnitFileState'), 'enabled');
  assert.equal(await world.property('ActiveEnterTimestampMonotonic', 'ssecast.socket'), socket, 'the socket stayed');

  const before = clients.map(({ events }) => events.length);
  await world.until('clients get events again', all(({ events }, index) => events.length > before[index] + 20));
  for (const client of clients) {
    assert.deepEqual(client.refusals, []);
    assertUnbroken(client.events, 'a client');
  }
});

claim('an upgrade does not start a service that does not run', async (world) => {
  await install(NEXT_PACKAGE);
  assert.equal(await world.property('ActiveState'), 'inactive');
  assert.equal(await world.property('UnitFileState'), 'disabled');
});

claim('removing stops the service and its sockets, and keeps what is configured', async (world) => {
  await world.origin();
  world.configure({ address: 'systemd:http' });
  await world.edit('ssecast.socket', '[Socket]\nListenStream=\nListenStream=8080\n');
  await world.systemctl('start', 'ssecast.socket', 'ssecast.service');
  await world.reader();
  await run('dpkg', '--remove', 'ssecast');
  assert.equal((await attempt('pgrep', '-x', 'ssecast')).code, 1, 'no process is left');
  await assert.rejects(fetch('http://127.0.0.1:8080/'));
  assert.ok(fs.existsSync(hostPath('/etc/ssecast/ssecast.toml')));
});

claim('a purge leaves nothing but what the administrator has made', async (world) => {
  await world.origin();
  world.configure();
  await world.systemctl('enable', '--now', 'ssecast');
  await world.reader();
  await run('dpkg', '--purge', 'ssecast');
  for (const path of ['/etc/ssecast', '/var/lib/ssecast', '/run/ssecast', '/usr/bin/ssecast', '/etc/systemd/system/multi-user.target.wants/ssecast.service']) {
    assert.ok(!fs.existsSync(hostPath(path)), path);
  }
  assert.notEqual((await attempt('getent', 'passwd', 'ssecast')).code, 0, 'the user is gone');
  assert.notEqual((await attempt('getent', 'group', 'ssecast')).code, 0, 'the group is gone');
  assert.notEqual((await attempt('systemctl', 'cat', 'ssecast.service')).code, 0);
});

claim('a purge keeps certificates, and gives them to root alone', async () => {
  write('/etc/ssecast/tls/privkey.pem', 'a key');
  await run('chown', 'root:ssecast', '/etc/ssecast/tls/privkey.pem');
  await run('dpkg', '--purge', 'ssecast');
  const owner = await run('stat', '--format=%U:%G', '/etc/ssecast/tls/privkey.pem');
  assert.equal(owner.trim(), 'root:root');
});
