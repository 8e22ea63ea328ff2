// A backend on Node's own `http` module: REST for the present state, Server-Sent Events for what
// changes, and a file that keeps the truth. Nothing to install.
//
// Each change has a number, and the number is the event's id. So an answer of the REST interface can
// say which changes it knows (`seq`), a page can leave out the events that it knows already, and
// whoever was away can ask for the rest (`Last-Event-ID`), also after this process was killed.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';

import { Journal } from './journal.js';

const HOST = process.env.HOST ?? '127.0.0.1';
const PORT = Number(process.env.PORT ?? 3000);
const INTERVAL_MS = Number(process.env.INTERVAL_MS ?? 1000);
const DATABASE = process.env.DATABASE ?? 'prices.jsonl';
const PUBLIC = path.join(import.meta.dirname, 'public');

const journal = new Journal(DATABASE);
const clients = new Set();
let everConnected = 0;

/** Writes a change down, and only then tells it. */
function change(row) {
  const event = eventOf(journal.append(row));
  for (const client of clients) client.write(event);
}

function eventOf({ seq, row }) {
  return `id: ${seq}\nevent: price\ndata: ${JSON.stringify(row)}\n\n`;
}

function subscribe(request, response) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  response.flushHeaders();
  // No turn of the event loop between these: what is written down is sent here or there, never twice.
  const lastSeen = Number.parseInt(request.headers['last-event-id'] ?? '', 10);
  if (lastSeen <= journal.seq) {
    response.write(journal.after(lastSeen).map(eventOf).join(''));
  }
  clients.add(response);
  everConnected += 1;
  response.on('close', () => clients.delete(response));
}

async function handle(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost');
  const symbol = /^\/api\/prices\/([A-Z]{1,8})$/.exec(pathname)?.[1];
  const route = `${request.method} ${symbol === undefined ? pathname : '/api/prices/SYMBOL'}`;
  switch (route) {
    case 'GET /events':
      return subscribe(request, response);
    case 'GET /api/prices':
      return answer(response, 200, journal.state());
    case 'PUT /api/prices/SYMBOL': {
      const { price } = JSON.parse(await read(request));
      if (!Number.isFinite(price)) return answer(response, 422, { error: 'price is not a number' });
      change({ symbol, price });
      return answer(response, 200, { seq: journal.seq });
    }
    case 'DELETE /api/prices/SYMBOL':
      change({ symbol }); // nothing besides its key: it is gone
      return answer(response, 200, { seq: journal.seq });
    case 'GET /connections':
      // How many event streams this server has to feed, now and since it started.
      return answer(response, 200, { now: clients.size, ever: everConnected });
    case 'GET /':
      return sendFile(response, 'index.html', 'text/html; charset=utf-8');
    case 'GET /live.js':
      return sendFile(response, 'live.js', 'text/javascript; charset=utf-8');
    default:
      return answer(response, 404, { error: `there is no ${request.method} ${pathname}` });
  }
}

function answer(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify(body));
}

function sendFile(response, name, type) {
  response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-cache' });
  fs.createReadStream(path.join(PUBLIC, name)).pipe(response);
}

async function read(request) {
  let text = '';
  request.setEncoding('utf8');
  for await (const part of request) {
    text += part;
    if (text.length > 10_000) throw new SyntaxError('the body is too large');
  }
  return text;
}

const server = http.createServer((request, response) => {
  handle(request, response).catch((error) => {
    if (error instanceof SyntaxError) return answer(response, 400, { error: error.message });
    console.error(error);
    if (response.headersSent) response.destroy();
    else answer(response, 500, { error: 'something is wrong here' });
  });
});

server.listen(PORT, HOST, () => {
  console.log(`listening on http://${HOST}:${server.address().port}/`);
});

// Somebody trades. With an interval of 0 nobody does, and only requests change prices.
const SYMBOLS = ['ACME', 'GLOBEX', 'INITECH', 'UMBRELLA'];
if (INTERVAL_MS > 0) {
  setInterval(() => {
    const symbol = SYMBOLS[Math.floor(Math.random() * SYMBOLS.length)];
    const before = journal.get(symbol)?.price ?? 100;
    change({ symbol, price: Math.round(before * (0.98 + Math.random() * 0.04) * 100) / 100 });
  }, INTERVAL_MS);
}
