// The container: commands and files in it. It was booted by `run`, which also ends it.

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const LEADER = required('SSECAST_CONTAINER_LEADER');
const ROOT = required('SSECAST_CONTAINER_ROOT');

/** The package under test, and the same with a higher version. */
export const PACKAGE = required('SSECAST_PACKAGE');
export const NEXT_PACKAGE = required('SSECAST_NEXT_PACKAGE');

/** No command takes so long, except by a failure. */
const COMMAND_TIMEOUT_MS = 90_000;

const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  DEBIAN_FRONTEND: 'noninteractive',
  LC_ALL: 'C.UTF-8',
};

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; start these tests by tests/container/run`);
  return value;
}

/** Runs a command in the container, however it ends: `{ code, output }`, with both its streams. */
export function attempt(command, ...args) {
  const options = { env: ENVIRONMENT, timeout: COMMAND_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 };
  return new Promise((resolve) => {
    execFile('nsenter', ['-t', LEADER, '-a', command, ...args], options, (error, out, err) => {
      const code = error ? (error.code ?? error.signal) : 0;
      resolve({ code, output: out + err });
    });
  });
}

/** Runs a command in the container that must succeed, and gives its output. */
export async function run(command, ...args) {
  const { code, output } = await attempt(command, ...args);
  if (code !== 0) throw new Error(`${[command, ...args].join(' ')} ended with ${code}:\n${output}`);
  return output;
}

/** Where a file of the container is for us. */
export function hostPath(file) {
  return path.join(ROOT, file);
}

/** Writes a file of the container at once, as editors do. */
export function write(file, text) {
  const target = hostPath(file);
  fs.mkdirSync(path.dirname(target), { recursive: true });
  fs.writeFileSync(`${target}.new`, text);
  fs.renameSync(`${target}.new`, target);
}

/** Installs a package, as `apt install ./FILE` would; without a network. */
export async function install(file) {
  const inside = `/var/tmp/${path.basename(file)}`;
  fs.copyFileSync(file, hostPath(inside));
  // The administrator's files are kept without a question, which is dpkg's default too.
  return run('dpkg', '--force-confold', '--install', inside);
}
