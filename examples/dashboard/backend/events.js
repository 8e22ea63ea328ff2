// GET /events: the changes of the database as Server-Sent Events. Nothing here is special because of
// the gateway; a browser could read it, too. Behind the gateway there is one reader, whoever many
// pages are open.

import { once } from 'node:events';

import { changesAfter, findPlace } from './changes.js';
import { follow } from './follow.js';

/** How often an idle stream says that it is alive: well within the gateway's `idle_timeout`. */
const HEARTBEAT_MS = 15_000;

/** How many streams this process feeds: with the gateway in front, one. */
export const streams = { now: 0 };

export function serveEvents(database) {
  return async (request, response) => {
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    const place = await findPlace(database, lastEventId(request));
    if (gone.signal.aborted) return;
    response.set({
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache',
      'X-Accel-Buffering': 'no', // should there be an nginx in between
    });
    response.flushHeaders();
    if (place.isReset) {
      // It can't go on where the reader was. The gateway passes this on, and pages fetch anew.
      const data = JSON.stringify({ version: place.version });
      response.write(toEvent({ version: place.version, type: 'reset', data }));
    }

    streams.now += 1;
    const heartbeat = setInterval(() => response.write(':\n'), HEARTBEAT_MS);
    try {
      await follow(database, {
        cursor: place.version,
        read: changesAfter,
        cursorOf: (change) => change.version,
        send: async (changes) => {
          if (!response.write(changes.map(toEvent).join(''))) {
            await once(response, 'drain', { signal: gone.signal });
          }
        },
        signal: gone.signal,
      });
    } catch (error) {
      if (gone.signal.aborted) return;
      // The database is away. Cut the stream: the gateway comes back, and goes on where it was.
      console.error(`events: ${error.message}`);
      response.destroy();
    } finally {
      streams.now -= 1;
      clearInterval(heartbeat);
    }
  };
}

function toEvent({ version, type, data }) {
  return `event: ${type}\ndata: ${data}\nid: ${version}\n\n`;
}

/** The last version that a reader has seen; `null` if it has seen none. */
function lastEventId(request) {
  const id = request.get('Last-Event-ID');
  if (!id) return null;
  // One that we never gave is from after everything: `findPlace` does not know it.
  return /^\d{1,15}$/.test(id) ? Number(id) : Infinity;
}
