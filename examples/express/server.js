// An Express server that sends events as every tutorial shows it: a set of open responses and a
// timer that writes to each of them. It gives its events no ids, so a browser that loses its
// connection here loses what was sent meanwhile. With ssecast in front it does not.

import express from 'express';

const HOST = process.env.HOST ?? '127.0.0.1';
const PORT = Number(process.env.PORT ?? 3000);
const INTERVAL_MS = Number(process.env.INTERVAL_MS ?? 1000);

const app = express();
const clients = new Set();
let everConnected = 0;

app.get('/events', (request, response) => {
  response.set({
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache',
    Connection: 'keep-alive',
  });
  response.flushHeaders();

  clients.add(response);
  everConnected += 1;
  response.on('close', () => clients.delete(response));
});

// How many event streams this server has to feed, now and since it started.
app.get('/connections', (request, response) => {
  response.json({ now: clients.size, ever: everConnected });
});

let n = 0;
setInterval(() => {
  n += 1;
  for (const client of clients) {
    client.write(`data: ${JSON.stringify({ n, time: new Date().toISOString() })}\n\n`);
  }
}, INTERVAL_MS);

const server = app.listen(PORT, HOST, (error) => {
  if (error) throw error;
  console.log(`listening on http://${HOST}:${server.address().port}/events`);
});
