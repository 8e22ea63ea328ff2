// A backend of Express that does what backends do.

import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../../../examples/express/package.json', import.meta.url));
const express = require('express');

const app = express();
let left = 0;

app.get('/items/:id', (request, response) => {
  response.json({ id: request.params.id, q: [request.query.q].flat(), host: request.get('host') });
});
app.post('/items', express.json(), (request, response) => {
  response.status(201).json(request.body);
});
app.delete('/items/:id', (request, response) => {
  response.status(204).end();
});
app.put('/upload', (request, response) => {
  const hash = createHash('sha256');
  let bytes = 0;
  request.on('data', (piece) => {
    bytes += piece.length;
    hash.update(piece);
  });
  request.on('end', () => response.json({ bytes, sha256: hash.digest('hex') }));
});
app.post('/chat', express.json(), (request, response) => {
  const { tokens, interval } = request.body;
  response.set({ 'Content-Type': 'text/event-stream' }).flushHeaders();
  let n = 0;
  const timer = setInterval(() => {
    response.write(`data: ${n}\n\n`);
    n += 1;
    if (n === tokens) {
      clearInterval(timer);
      response.end();
    }
  }, interval * 1000);
  response.on('close', () => {
    clearInterval(timer);
    if (n < tokens) left += 1;
  });
});
app.get('/left', (request, response) => {
  response.json({ left });
});

const server = app.listen(Number(process.env.PORT ?? 0), process.env.HOST ?? '127.0.0.1', () => {
  const { address, port } = server.address();
  console.log(`listening on http://${address}:${port}`);
});
