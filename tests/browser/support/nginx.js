// nginx as an origin: files with all that HTTP knows of them, uploads, and connections that it closes
// early.

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';

import { until } from './until.js';
import { ORIGIN_HOST } from './world.js';

/** Connections that nobody uses are closed after this; shorter than any gateway keeps them by default. */
export const KEEP_ALIVE_MS = 1_000;

export class Nginx {
  /** Starts it with these files, by their names: texts or buffers. */
  static async start(world, files) {
    const nginx = new Nginx();
    nginx.directory = world.directory();
    for (const [name, content] of Object.entries(files)) {
      const file = path.join(nginx.directory, 'files', name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, content);
    }
    fs.mkdirSync(path.join(nginx.directory, 'uploads'));
    nginx.port = await freePort();
    const file = path.join(nginx.directory, 'nginx.conf');
    const log = path.join(nginx.directory, 'log');
    fs.writeFileSync(file, configuration(nginx.directory, nginx.port));
    const child = world.child('nginx', 'nginx', ['-e', log, '-c', file]);
    await until('nginx listens', () => isListening(nginx.port), {
      guard: (waited) => child.assertRuns(waited),
      state: () => fs.readFileSync(log, 'utf8'),
    });
    return nginx;
  }

  get url() {
    return `http://${ORIGIN_HOST}:${this.port}`;
  }

  /** What was uploaded by this name. */
  uploaded(name) {
    return fs.readFileSync(path.join(this.directory, 'uploads', name));
  }

  /** The requests that it has answered since the last look: `METHOD PATH STATUS FIELD`. */
  requests() {
    return fs.readFileSync(path.join(this.directory, 'access'), 'utf8').trim().split('\n');
  }
}

function configuration(directory, port) {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((what) => `${what}_temp_path ${directory}/${what};`)
    .join('\n  ');
  return `
daemon off;
# A process alone, which ends when it is killed.
master_process off;
pid ${directory}/pid;
error_log ${directory}/log;
events { worker_connections 4096; }
http {
  ${temporary}
  log_format short '$request_method $request_uri $status';
  access_log ${directory}/access short;
  keepalive_timeout ${KEEP_ALIVE_MS / 1_000}s;
  keepalive_requests 1000000;
  absolute_redirect off;
  default_type text/plain;
  client_max_body_size 0;
  server {
    listen ${ORIGIN_HOST}:${port} backlog=4096;
    root ${directory}/files;
    # By itself it compresses nothing for a request that has come through a proxy, which Via tells.
    location /compressed/ { gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/plain; }
    # What it looks through for includes has no length known before.
    location /chunked/ { ssi on; ssi_types text/plain; }
    location /uploads/ { root ${directory}; dav_methods PUT DELETE; }
  }
}
`;
}

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, ORIGIN_HOST, resolve);
  });
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function isListening(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, ORIGIN_HOST);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
