// Whole backends, by the frameworks that they are written with.

import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { ORIGINS, ORIGIN_HOST } from '../world.js';

const HERE = fileURLToPath(new URL('.', import.meta.url));

export const BACKENDS = {
  Express: { command: ORIGINS.Express.command, script: path.join(HERE, 'with-express.js') },
  FastAPI: { command: ORIGINS.FastAPI.command, script: path.join(HERE, 'with-fastapi.py') },
};

const LISTENS = /listening on http:\/\/([\d.]+):(\d+)/;

/** Starts one of them, which can be killed and started again. */
export async function startBackend(world, name) {
  const { command, script } = BACKENDS[name];
  const start = (port) => world.child(name, command, [script], { env: { HOST: ORIGIN_HOST, PORT: port } });
  return world.server(name, start, LISTENS);
}
