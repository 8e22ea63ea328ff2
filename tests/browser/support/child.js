// A process that a test started: its log, its life, its end. It is only ever ended by its handle.

import { spawn } from 'node:child_process';

import { until } from './until.js';

/** How long a process may take to end after SIGTERM before it is killed. */
const STOP_MS = 5_000;

/** Log lines that are printed of a process when a test failed. */
const PRINTED_LINES = 200;

/** All processes that run, so that none outlives this one. */
const running = new Set();

// A test runner that gives up sends SIGTERM; without a handler 'exit' would not be emitted.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));
process.on('exit', () => {
  for (const child of running) child.process.kill('SIGKILL');
});

export class Child {
  /** What it wrote to standard output and standard error, line by line. */
  log = [];

  /** `null` while it runs, else how it ended. */
  ended = null;

  /** Whether the test asked for the end. */
  stopping = false;

  /** `onOutput`, if given, gets the chunks of standard output, which are then not logged. */
  constructor(name, command, args, { env = {}, onOutput, uid, gid, cwd } = {}) {
    this.name = name;
    this.process = spawn(command, args, {
      uid,
      gid,
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(this);
    this.process.once('error', (error) => this.#end(`could not be started: ${error.message}`));
    this.process.once('exit', (code, signal) => this.#end(`ended with ${signal ?? `code ${code}`}`));
    this.#collect(this.process.stderr);
    if (onOutput) this.process.stdout.on('data', onOutput);
    else this.#collect(this.process.stdout);
  }

  /** Waits for a log line that matches and gives the match. */
  async logged(claim, pattern) {
    const find = () => {
      for (const line of this.log) {
        const match = pattern.exec(line);
        if (match) return match;
      }
      return null;
    };
    return until(`${this.name}: ${claim}`, find, {
      guard: (waited) => this.assertRuns(waited),
      state: () => this.log.slice(-10),
    });
  }

  /** Throws if it ended by itself. */
  assertRuns(waited) {
    if (this.ended !== null && !this.stopping) {
      throw new Error(`${this.name} ${this.ended} while waiting: ${waited}`);
    }
  }

  /** Ends it and waits for that: politely at first. */
  async stop() {
    this.stopping = true;
    if (this.ended === null) this.process.kill('SIGTERM');
    try {
      await until(`${this.name} ends on SIGTERM`, () => this.ended, { withinMs: STOP_MS });
    } catch {
      this.log.push(`(did not end within ${STOP_MS} ms of SIGTERM, killed)`);
      this.process.kill('SIGKILL');
      await until(`${this.name} ends on SIGKILL`, () => this.ended, { withinMs: STOP_MS });
    }
  }

  /** Ends it at once, as a crash would. */
  async kill() {
    this.stopping = true;
    this.process.kill('SIGKILL');
    await until(`${this.name} ends on SIGKILL`, () => this.ended, { withinMs: STOP_MS });
  }

  printLog() {
    const lines = this.log.slice(-PRINTED_LINES);
    const state = this.ended ?? 'runs';
    console.error(`--- ${this.name} (${state}), its last ${lines.length} lines`);
    for (const line of lines) console.error(`    ${line}`);
  }

  #collect(stream) {
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      this.log.push(...lines);
    });
    stream.on('end', () => {
      if (rest !== '') this.log.push(rest);
    });
  }

  #end(how) {
    running.delete(this);
    this.ended ??= how;
  }
}
