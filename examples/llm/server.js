// A model's API as its users know it: a POST that is answered by an event stream, token by token.
// Node's own `http` module only; nothing to install, no network, and the same answer every time.

import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

import { answerTo } from './model.js';

const HOST = process.env.HOST ?? '127.0.0.1';
const PORT = Number(process.env.PORT ?? 3000);
const THINK_MS = Number(process.env.THINK_MS ?? 500); // before the first token: real ones think longer
const TOKEN_MS = Number(process.env.TOKEN_MS ?? 50);
const PUBLIC = path.join(import.meta.dirname, 'public');

/** What the model was asked to do, and did: tokens cost money. */
const generations = { now: 0, finished: 0, cancelled: 0, tokens: 0 };

async function complete(request, response) {
  const { messages, model = 'parrot', stream = false } = JSON.parse(await read(request));
  const prompt = messages?.findLast?.(({ role }) => role === 'user')?.content;
  if (typeof prompt !== 'string') return answer(response, 400, { error: 'no message of a user' });
  const tokens = answerTo(prompt);
  if (!stream) return answer(response, 200, whole(model, tokens));

  // Who closes the connection wants no more: what it would have cost is saved.
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  generations.now += 1;
  try {
    await generate(response, { model, tokens, signal: gone.signal });
    generations.finished += 1;
  } catch (error) {
    if (error.name !== 'AbortError') throw error;
    generations.cancelled += 1;
  } finally {
    generations.now -= 1;
  }
}

async function generate(response, { model, tokens, signal }) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  response.flushHeaders();
  const head = { id: `chatcmpl-${randomUUID()}`, object: 'chat.completion.chunk', model };
  const send = (delta, finish_reason = null) => {
    const chunk = { ...head, choices: [{ index: 0, delta, finish_reason }] };
    response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  };

  await wait(THINK_MS, undefined, { signal });
  send({ role: 'assistant', content: '' });
  for (const content of tokens) {
    await wait(TOKEN_MS, undefined, { signal });
    generations.tokens += 1;
    send({ content });
  }
  send({}, 'stop');
  response.end('data: [DONE]\n\n');
}

function whole(model, tokens) {
  const message = { role: 'assistant', content: tokens.join('') };
  const choices = [{ index: 0, message, finish_reason: 'stop' }];
  return { id: `chatcmpl-${randomUUID()}`, object: 'chat.completion', model, choices };
}

async function handle(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost');
  switch (`${request.method} ${pathname}`) {
    case 'POST /v1/chat/completions':
      return complete(request, response);
    case 'GET /generations':
      return answer(response, 200, generations);
    case 'GET /':
      return sendFile(response, 'index.html', 'text/html; charset=utf-8');
    case 'GET /ask.js':
      return sendFile(response, 'ask.js', 'text/javascript; charset=utf-8');
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
    if (text.length > 100_000) throw new SyntaxError('the body is too large');
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
