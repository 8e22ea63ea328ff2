// WebSocket /chat: both sides talk, so this is no job for Server-Sent Events. Each client has a
// connection of its own, through the gateway, too. Messages are kept; who comes back says by `?after=`
// which it has seen last, and gets what it missed. What each side says is a line of JSON:
//
//   client  {"type":"say","key":"…","author":"…","text":"…"}   again after a break, if not confirmed
//           {"type":"ping"}                                    a page can't see a WebSocket's own pings
//   server  {"type":"message","id":7,"key":"…","author":"…","text":"…","created_at":"…"}
//           {"type":"said","key":"…"}                          you have said that before
//           {"type":"error","key":"…","error":"…"}             this will not be said
//           {"type":"pong"}

import { WebSocketServer } from 'ws';

import { next } from './changes.js';
import { follow } from './follow.js';
import { isFromOurPages } from './origin.js';

/** How many messages a newcomer gets. */
const SHOWN = 50;

/**
 * Who does not answer a ping within this time is gone. The gateway sees the pings, too, so its
 * `tunnel_idle_timeout` never ends a chat in which nobody says anything.
 */
const PING_MS = 20_000;

/** What a client may have unread, before it is sent away to come back. */
const MAX_UNSENT_BYTES = 1_000_000;

export function serveChat(server, database) {
  const sockets = new WebSocketServer({
    server,
    path: '/chat',
    maxPayload: 4_096,
    verifyClient: ({ req: request }) => isFromOurPages(request),
  });

  sockets.on('connection', async (socket, request) => {
    const gone = new AbortController();
    socket.isAlive = true;
    socket.on('pong', () => (socket.isAlive = true));
    socket.on('close', () => gone.abort());
    socket.on('error', () => {}); // 'close' follows
    socket.on('message', (bytes) => receive(database, socket, bytes));
    try {
      await follow(database, {
        cursor: await firstCursor(database, request),
        read: messagesAfter,
        cursorOf: (message) => message.id,
        send: (messages) => {
          for (const message of messages) send(socket, { type: 'message', ...message });
          if (socket.bufferedAmount > MAX_UNSENT_BYTES) socket.terminate();
        },
        signal: gone.signal,
      });
    } catch (error) {
      console.error(`chat: ${error.message}`);
      socket.close(1011, 'the database is away');
    }
  });

  const timer = setInterval(() => {
    for (const socket of sockets.clients) {
      if (!socket.isAlive) socket.terminate();
      socket.isAlive = false;
      socket.ping();
    }
  }, PING_MS);
  timer.unref();

  return () => {
    for (const socket of sockets.clients) socket.close(1001, 'the backend stops');
    sockets.close();
  };
}

function send(socket, message) {
  socket.send(JSON.stringify(message), () => {}); // one that is gone is noticed by 'close'
}

async function receive(database, socket, bytes) {
  let key;
  try {
    const said = JSON.parse(bytes);
    if (said?.type === 'ping') return send(socket, { type: 'pong' });
    key = said?.key;
    const isNew = await say(database, checked(said));
    if (!isNew) send(socket, { type: 'said', key });
  } catch (error) {
    // It tries again what has no answer; so this is only for what will not get better.
    const isTheirs = error instanceof SyntaxError || error instanceof Refused;
    if (isTheirs) send(socket, { type: 'error', key, error: error.message });
    else socket.close(1011, 'the database is away');
  }
}

class Refused extends Error {}

function checked(said) {
  const { key, author, text } = said ?? {};
  const clean = { key: trimmed(key), author: trimmed(author), text: trimmed(text) };
  if (!clean.key || clean.key.length > 40)
    throw new Refused('a message needs a key, of at most 40 characters');
  if (!clean.author || clean.author.length > 40)
    throw new Refused('a message needs an author, of at most 40 characters');
  if (!clean.text || clean.text.length > 1_000)
    throw new Refused('a message needs a text, of at most 1,000 characters');
  return clean;
}

function trimmed(value) {
  return typeof value === 'string' ? value.trim() : '';
}

function say(database, { key, author, text }) {
  return database.write(async (query) => {
    const id = await next(query, 'messages');
    const rows = await query(
      `INSERT INTO messages (id, key, author, text, created_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (key) DO NOTHING RETURNING id`,
      [id, key, author, text, new Date().toISOString()],
    );
    return rows.length > 0;
  });
}

function messagesAfter(query, id) {
  return query(
    'SELECT id, key, author, text, created_at FROM messages WHERE id > $1 ORDER BY id LIMIT 100',
    [id],
  );
}

/** After what a client has seen, but never more than the last messages. */
async function firstCursor(database, request) {
  const after = Number(new URL(request.url, 'http://chat').searchParams.get('after') ?? 0);
  const [{ value }] = await database.read((query) =>
    query("SELECT value FROM counters WHERE name = 'messages'"),
  );
  const oldest = Math.max(0, value - SHOWN);
  return Number.isSafeInteger(after) && after > oldest && after <= value ? after : oldest;
}
