// The backend: REST for what is, Server-Sent Events for what changes, a WebSocket for the chat, and the
// built pages. It speaks to the gateway, and to nobody else.

import path from 'node:path';
import { fileURLToPath } from 'node:url';

import express from 'express';

import { serveChat } from './chat.js';
import { openDatabase } from './database/index.js';
import { serveEvents, streams } from './events.js';
import { askGateway } from './gateway.js';
import * as notifications from './notifications.js';
import { isFromOurPages } from './origin.js';
import { openMarket, readPrices, runMarket } from './prices.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const HOST = process.env.HOST ?? '127.0.0.1';
const PORT = Number(process.env.BACKEND_PORT ?? 3000);
const DATABASE_URL = process.env.DATABASE_URL ?? path.join(HERE, '../data/dashboard.db');
const ADMIN_URL = process.env.GATEWAY_ADMIN ?? `http://127.0.0.1:${process.env.ADMIN_PORT ?? 9180}`;
const INTERVAL_MS = Number(process.env.INTERVAL_MS ?? 250);
const PAGES = path.join(HERE, '../dist');

const database = await openDatabase(DATABASE_URL).catch((error) => {
  console.error(`can't open the database ${withoutPassword(DATABASE_URL)}: ${error.message}`);
  process.exit(1);
});
await openMarket(database);
const closeMarket = runMarket(database, INTERVAL_MS);
const gateway = askGateway(ADMIN_URL, 'changes');

const app = express();
app.disable('x-powered-by');
app.use(express.json({ limit: '16kb' }));

// The state is never out of a cache: it says at which version it is so.
app.use('/api', (request, response, next) => {
  response.set('Cache-Control', 'no-store');
  next();
});

app.use('/api', (request, response, next) => {
  if (request.method === 'GET' || isFromOurPages(request)) return next();
  return response.status(403).json({ error: 'this is for our own pages' });
});

app.get('/api/prices', async (request, response) => {
  response.json(await readPrices(database));
});

app.get('/api/notifications', async (request, response) => {
  response.json(await notifications.readNotifications(database));
});

app.post('/api/notifications', async (request, response) => {
  const { title, body = '', level = 'info' } = request.body ?? {};
  if (typeof title !== 'string' || !title.trim() || title.length > 120) {
    return response
      .status(400)
      .json({ error: 'a notification needs a title, of at most 120 characters' });
  }
  if (typeof body !== 'string' || body.length > 1_000) {
    return response.status(400).json({ error: 'the body is a text of at most 1,000 characters' });
  }
  if (!notifications.LEVELS.includes(level)) {
    return response
      .status(400)
      .json({ error: `the level is one of ${notifications.LEVELS.join(', ')}` });
  }
  const row = await notifications.createNotification(database, {
    title: title.trim(),
    body: body.trim(),
    level,
  });
  return response.status(201).json(row);
});

app.post('/api/notifications/read', async (request, response) => {
  response.json({ notifications: await notifications.markAllAsRead(database) });
});

app.patch('/api/notifications/:id', async (request, response) => {
  if (request.body?.read !== true) {
    return response.status(400).json({ error: 'all that can be changed is {"read": true}' });
  }
  const id = Number(request.params.id);
  const row = Number.isSafeInteger(id) ? await notifications.markAsRead(database, id) : undefined;
  return row
    ? response.json(row)
    : response.status(404).json({ error: 'there is no such notification' });
});

app.get('/api/gateway', async (request, response) => {
  response.json({ streams: streams.now, gateway: await gateway() });
});

app.get('/events', serveEvents(database));

app.use('/api', (request, response) => {
  response.status(404).json({ error: 'there is no such thing' });
});
// Names of built files change with what is in them; the page that names them is looked at each time.
app.use(
  '/assets',
  express.static(path.join(PAGES, 'assets'), { immutable: true, maxAge: '1y', fallthrough: false }),
);
app.use(express.static(PAGES));

// Four parameters: that is how Express knows that it is for errors.
app.use((error, request, response, next) => {
  if (response.headersSent) return next(error);
  const status = error.status ?? 500;
  if (status >= 500) console.error(`${request.method} ${request.path}: ${error.message}`);
  return response
    .status(status)
    .json({ error: status < 500 ? error.message : 'something went wrong here' });
});

const server = app.listen(PORT, HOST, (error) => {
  if (error) {
    console.error(`can't listen on ${HOST}:${PORT}: ${error.message}`);
    process.exit(1);
  }
  console.log(`backend listening on http://${HOST}:${server.address().port} (${database.name})`);
});
// Longer than the gateway keeps an idle connection (`keep_alive`), so that it never picks one that is
// being closed here.
server.keepAliveTimeout = 65_000;
const closeChat = serveChat(server, database);

let isStopping = false;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, async () => {
    if (isStopping) process.exit(1);
    isStopping = true;
    closeMarket();
    closeChat();
    server.close();
    server.closeAllConnections(); // event streams never end by themselves
    await database.close();
    process.exit(0);
  });
}

function withoutPassword(url) {
  return url.replace(/:[^:@/]*@/, ':…@');
}
