// Runs the whole example: installs packages, builds the pages, finds or builds the gateway, starts the
// backend and the gateway, starts again what ends, and ends all of it with Ctrl-C.
//
//   ./start [--dev]      --dev: pages come from Vite, and change as you write
//
// Environment: PORT, BACKEND_PORT, ADMIN_PORT, DEV_PORT, DATABASE_URL, INTERVAL_MS, SSECAST.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { PORTS, configWith } from './config.js';

const HERE = fileURLToPath(new URL('..', import.meta.url));
const REPOSITORY = path.join(HERE, '../..');
const isDev = process.argv.includes('--dev');
const ports = {
  port: portOf('PORT', PORTS.port),
  backendPort: portOf('BACKEND_PORT', PORTS.backendPort),
  adminPort: portOf('ADMIN_PORT', PORTS.adminPort),
};
const devPort = portOf('DEV_PORT', 5173);

/** How long something may take until it answers. */
const START_MS = 20_000;

/** How long a process may take to end, before it is killed. */
const STOP_MS = 5_000;

/** The wait before something is started again that ended, so that one can see what happens without it. */
const AGAIN_MS = 3_000;

const running = new Map();
let isUp = false;
let isStopping = false;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop(0));
process.on('exit', () => {
  for (const child of running.values()) child.kill('SIGKILL');
});

try {
  await start();
} catch (error) {
  console.error(`\nstart: ${error.message}`);
  await stop(1);
}

async function start() {
  needNode();
  await needPort(ports.port, 'PORT');
  await needPort(ports.backendPort, 'BACKEND_PORT');
  await needPort(ports.adminPort, 'ADMIN_PORT');
  if (isDev) await needPort(devPort, 'DEV_PORT');
  installPackages();
  if (!isDev) buildPages();
  const config = writeConfig();
  const gateway = findGateway(config);

  say('starting the backend');
  const env = {
    BACKEND_PORT: ports.backendPort,
    ADMIN_PORT: ports.adminPort,
    PORT: ports.port,
    DEV_PORT: devPort,
  };
  run('backend', process.execPath, [path.join(HERE, 'backend/server.js')], env);
  await answers('backend', `http://127.0.0.1:${ports.backendPort}/api/prices`);
  say('starting the gateway');
  run('gateway', gateway, ['serve', '--config', config], env);
  await answers('gateway', `http://127.0.0.1:${ports.adminPort}/ready`);
  if (isDev) {
    say('starting Vite');
    run('vite', process.execPath, [path.join(HERE, 'node_modules/vite/bin/vite.js')], env);
    await answers('vite', `http://127.0.0.1:${devPort}/`);
  }
  isUp = true;
  say(`
  The dashboard:       http://127.0.0.1:${isDev ? devPort : ports.port}/
  Five hundred more:   ${crowdCommand()}    still one upstream
  Kill the backend:    kill -9 ${running.get('backend').pid}    it comes back in ${AGAIN_MS / 1000} seconds
  Kill the gateway:    kill -9 ${running.get('gateway').pid}
  End:                 Ctrl-C
`);
}

function crowdCommand() {
  const folder = path.relative(process.cwd(), HERE);
  const url = ports.port === PORTS.port ? '' : ` http://127.0.0.1:${ports.port}/events`;
  return `npm run crowd${folder && ` --prefix ${folder}`} -- 500${url}`;
}

function needNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const isGood = (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22;
  if (!isGood)
    throw new Error(`node 20.19 or 22.12 or later is needed, this is ${process.versions.node}`);
}

function portOf(variable, otherwise) {
  const text = process.env[variable] ?? String(otherwise);
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  console.error(
    `start: ${variable} is a port, a number from 1 to 65535, not ${JSON.stringify(text)}`,
  );
  process.exit(1);
}

async function needPort(port, variable) {
  const server = net.createServer();
  await new Promise((resolve, reject) => {
    server.once('error', ({ code, message }) => {
      const reason =
        code === 'EADDRINUSE' ? `port ${port} is taken` : `port ${port} can't be had (${message})`;
      reject(
        new Error(
          `${reason}; choose another: ${variable}=${port + 1} ${process.env.npm_command ? 'npm start' : './start'}`,
        ),
      );
    });
    server.listen(port, '127.0.0.1', () => server.close(resolve));
  });
}

function installPackages() {
  const [wanted, there] = ['package-lock.json', 'node_modules/.package-lock.json'].map((file) =>
    path.join(HERE, file),
  );
  if (existsSync(there) && statSync(there).mtimeMs >= statSync(wanted).mtimeMs) return;
  say('installing packages (npm ci), a few seconds');
  finish('npm', ['ci', '--no-fund', '--no-audit']);
}

function buildPages() {
  say('building the pages (vite build)');
  finish(process.execPath, ['node_modules/vite/bin/vite.js', 'build', '--logLevel', 'warn']);
}

/** The configuration as it is in the repository, or a copy with the ports that were chosen. */
function writeConfig() {
  if (Object.entries(PORTS).every(([name, port]) => ports[name] === port))
    return path.join(HERE, 'ssecast.toml');
  // One for each start: a gateway that runs follows the changes of its file.
  const file = path.join(HERE, `data/ssecast-${ports.port}.toml`);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, configWith(ports));
  return file;
}

/** A gateway that understands the configuration; if there is none, it is built. */
function findGateway(config) {
  const built = path.join(
    process.env.CARGO_TARGET_DIR ?? path.join(REPOSITORY, 'target'),
    'release/ssecast',
  );
  const chosen = process.env.SSECAST;
  const check = (gateway) => spawnSync(gateway, ['check', config], { encoding: 'utf8' });
  const found = (chosen ? [chosen] : [built, 'ssecast']).find(
    (gateway) => check(gateway).status === 0,
  );
  if (found) return found;
  if (chosen) {
    const { error, stderr } = check(chosen);
    throw new Error(
      `SSECAST=${chosen} is no gateway for this example: ${error?.message ?? stderr}`,
    );
  }
  if (spawnSync('cargo', ['--version']).status !== 0) {
    throw new Error(
      'there is no gateway, and no cargo to build it; SSECAST=/path/to/ssecast says where there is one',
    );
  }
  say('building the gateway (cargo build --release); the first time that takes some minutes');
  finish('cargo', ['build', '--release'], REPOSITORY);
  const { status, stderr } = check(built);
  if (status !== 0)
    throw new Error(`the gateway that was built does not take the configuration:\n${stderr}`);
  return built;
}

/** Runs what ends by itself. */
function finish(command, args, cwd = HERE) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit' });
  if (status !== 0)
    throw new Error(`\`${command} ${args.join(' ')}\` failed${error ? `: ${error.message}` : ''}`);
}

/** Runs what stays, each line of it with its name before it, and starts it again if it ends. */
function run(name, command, args, env) {
  const child = spawn(command, args, {
    cwd: HERE,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // a Ctrl-C is for us; we end the others
  });
  running.set(name, child);
  for (const stream of [child.stdout, child.stderr]) {
    readline
      .createInterface({ input: stream })
      .on('line', (line) => console.log(`${name.padEnd(7)} │ ${line}`));
  }
  child.once('error', (error) => console.error(`start: ${name}: ${error.message}`));
  child.once('close', async (code, signal) => {
    running.delete(name);
    if (isStopping) return;
    const how = signal ?? `code ${code}`;
    if (!isUp && signal === null) {
      console.error(`\nstart: the ${name} can't run (${how}); what it says is above`);
      await stop(1);
    } else {
      say(`the ${name} ended (${how}); it is started again in ${AGAIN_MS / 1000} s`);
      await sleep(AGAIN_MS);
      if (isStopping) return;
      run(name, command, args, env);
      say(`the ${name} is process ${running.get(name).pid} now`);
    }
  });
}

async function answers(name, url) {
  const end = Date.now() + START_MS;
  while (Date.now() < end) {
    if (isStopping) return new Promise(() => {});
    const isThere = await fetch(url, { signal: AbortSignal.timeout(2_000) }).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isThere) return;
    await sleep(100);
  }
  throw new Error(`the ${name} does not answer at ${url}`);
}

/** Ends all that was started, the last first, politely at first; asked again, at once. */
async function stop(code) {
  if (isStopping) process.exit(code);
  isStopping = true;
  const late = sleep(STOP_MS).then(() => process.exit(code));
  for (const child of [...running.values()].reverse()) {
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    await Promise.race([ended, late]);
  }
  process.exit(code);
}

function say(text) {
  console.log(text.startsWith('\n') ? text : `start   │ ${text}`);
}
