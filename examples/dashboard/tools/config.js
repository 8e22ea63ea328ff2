// The gateway's configuration, with other ports than those that are written in it.

import { readFileSync } from 'node:fs';

/** Where the configuration that is in the repository is. */
export const CONFIG = new URL('../ssecast.toml', import.meta.url);

/** The ports that are written in it. */
export const PORTS = { port: 8080, backendPort: 3000, adminPort: 9180 };

/** Its text, with these ports instead. */
export function configWith({ port, backendPort, adminPort } = PORTS) {
  const ports = {
    [PORTS.port]: port,
    [PORTS.backendPort]: backendPort,
    [PORTS.adminPort]: adminPort,
  };
  return readFileSync(CONFIG, 'utf8').replace(
    /127\.0\.0\.1:(\d+)/g,
    (address, written) => `127.0.0.1:${ports[written] ?? written}`,
  );
}
