// A PostgreSQL of its own for a test, from Debian's package: in a new directory, at a unix socket there
// and at no port, ended with the test.

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where Debian puts the programs of each version. */
const VERSIONS = '/usr/lib/postgresql';

/** Starts one in this world; gives the URL of its database, and how to kill it and start it again. */
export async function startPostgres(world) {
  const directory = world.directory();
  const data = path.join(directory, 'data');
  const user = await whoMay(directory);
  await run(program('initdb'), ['--pgdata', data, '--username', 'dashboard', '--auth', 'trust', '--no-sync'], user);
  const settings = { listen_addresses: '', unix_socket_directories: directory, fsync: 'off' };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  let server;
  const start = async () => {
    server = world.child('PostgreSQL', program('postgres'), ['-D', data, ...args], user);
    await server.logged('takes connections', /ready to accept connections/);
  };
  await start();
  const url = `postgres://dashboard@localhost/postgres?host=${encodeURIComponent(directory)}`;
  return { url, start, kill: () => server.kill() };
}

/** PostgreSQL does not run as root; then it runs as the user that its package has made. */
async function whoMay(directory) {
  if (process.getuid() !== 0) return {};
  const id = async (option) => Number((await run('id', [option, 'postgres'])).stdout);
  const [uid, gid] = [await id('-u'), await id('-g')];
  fs.chownSync(directory, uid, gid);
  return { uid, gid, cwd: directory };
}

function program(name) {
  const versions = fs.readdirSync(VERSIONS).sort((a, b) => Number(a) - Number(b));
  return path.join(VERSIONS, versions.at(-1), 'bin', name);
}
