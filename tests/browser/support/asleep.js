// A laptop that is closed: every process of a browser stands still, and so does its network.

import fs from 'node:fs';

import { until } from './until.js';

/** Stops a browser's processes, found by the directory of its profile. Gives what wakes them. */
export async function fallAsleep(profile) {
  const asleep = new Set();
  // A process may have begun another before it was stopped itself: looks until all are.
  await until('all processes of the browser are stopped', () => {
    const running = family(profile).filter((pid) => !isStopped(pid));
    for (const pid of running) {
      asleep.add(pid);
      signal(pid, 'SIGSTOP');
    }
    return asleep.size > 0 && running.length === 0;
  });
  return {
    nProcesses: asleep.size,
    wake() {
      for (const pid of asleep) signal(pid, 'SIGCONT');
      asleep.clear();
    },
  };
}

/** The process that was started with this profile, and all that descend from it. */
function family(profile) {
  const parents = new Map();
  const pids = new Set();
  for (const name of fs.readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const pid = Number(name);
    parents.set(pid, Number(stat(pid)?.[1]));
    if (read(`/proc/${pid}/cmdline`).split('\0').includes(`--user-data-dir=${profile}`)) pids.add(pid);
  }
  for (let before = 0; before < pids.size; ) {
    before = pids.size;
    for (const [pid, parent] of parents) if (pids.has(parent)) pids.add(pid);
  }
  return [...pids];
}

/** Whether it is stopped, or gone. */
function isStopped(pid) {
  return 'TZX'.includes(stat(pid)?.[0] ?? 'X');
}

/** What follows the name in `/proc/PID/stat`, which may hold spaces and parentheses: state, parent, … */
function stat(pid) {
  const text = read(`/proc/${pid}/stat`);
  return text === '' ? null : text.slice(text.lastIndexOf(')') + 2).split(' ');
}

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return ''; // it has ended meanwhile
  }
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
