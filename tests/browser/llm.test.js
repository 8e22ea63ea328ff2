// examples/llm: answers of a language model, which have one reader each.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { answerTo } from '../../examples/llm/model.js';
import { ask } from '../../examples/llm/public/ask.js';
import { commandsOf } from './support/documents.js';
import { ORIGIN_HOST, ROOT, claim } from './support/world.js';

const EXAMPLE = path.join(ROOT, 'examples/llm');
const LISTENS = /http:\/\/([\d.]+):(\d+)/;

claim('an answer comes token by token, and is the whole answer', async (world) => {
  const { gateway, backend } = await start(world, { TOKEN_MS: 40 });
  const question = 'Who else gets this?';
  const pieces = [];
  let nAtFirst = null;
  for await (const piece of ask(urlOf(gateway), messages(question))) {
    nAtFirst ??= (await generations(backend)).tokens;
    pieces.push(piece);
  }
  const tokens = answerTo(question);
  assert.deepEqual(pieces, tokens);
  assert.ok(nAtFirst <= tokens.length / 2, `the first token came when ${nAtFirst} of ${tokens.length} were made`);
  const { now, finished, cancelled } = await generations(backend);
  assert.deepEqual({ now, finished, cancelled }, { now: 0, finished: 1, cancelled: 0 });
});

claim('every reader gets an answer of its own', async (world) => {
  const { gateway, backend } = await start(world, { TOKEN_MS: 5 });
  const questions = Array.from({ length: 20 }, (_, n) => `Question ${n}?`);
  const answers = await Promise.all(questions.map((question) => whole(ask(urlOf(gateway), messages(question)))));
  assert.deepEqual(answers, questions.map((question) => answerTo(question).join('')));
  assert.equal((await generations(backend)).finished, questions.length);
});

claim('while the model thinks, there are heartbeats, and the answer is the same', async (world) => {
  const { gateway } = await start(world, { THINK_MS: 2_500, TOKEN_MS: 5 });
  const comments = [];
  const question = 'Are you there?';
  const text = await whole(ask(urlOf(gateway), messages(question), { onComment: (text) => comments.push(text) }));
  assert.equal(text, answerTo(question).join(''));
  assert.ok(comments.length >= 1, 'comments came before the answer');
});

claim('the model stops when its reader leaves', async (world) => {
  const { gateway, backend } = await start(world, { TOKEN_MS: 100 });
  let nRead = 0;
  for await (const _ of ask(urlOf(gateway), messages('Stop?'))) {
    nRead += 1;
    if (nRead === 3) break;
  }
  await world.until('the generation is cancelled', async () => (await generations(backend)).cancelled === 1, {
    state: () => generations(backend),
  });
  const { finished, tokens } = await generations(backend);
  assert.equal(finished, 0);
  assert.ok(tokens < answerTo('Stop?').length, `${tokens} tokens were made for nobody`);
});

claim('an answer that breaks off is told from one that is over', async (world) => {
  const { gateway, backend } = await start(world, { TOKEN_MS: 100 });
  let nRead = 0;
  await assert.rejects(async () => {
    for await (const _ of ask(urlOf(gateway), messages('Break?'))) {
      nRead += 1;
      if (nRead === 3) await backend.kill();
    }
  });
  assert.ok(nRead >= 3 && nRead < answerTo('Break?').length, `${nRead} pieces`);

  await assert.rejects(whole(ask(urlOf(gateway), messages('Dead?'))), /502/, 'nobody is there');
  await backend.start();
  assert.equal(await whole(ask(urlOf(gateway), messages('Back?'))), answerTo('Back?').join(''));
  assert.equal((await generations(backend)).finished, 1, 'nothing was asked twice');
});

claim('a page shows an answer as it comes, and can stop it', async (world) => {
  const { gateway, backend } = await start(world, { TOKEN_MS: 40 });
  const browser = await world.browser();
  const page = await browser.newPage();
  await page.goto(gateway.url);
  const look = () =>
    page.evaluate(() => ({
      answer: document.querySelector('output').textContent,
      status: document.querySelector('#status').textContent,
    }));
  const until = (text, holds) => world.until(text, async () => holds(await look()), { state: look });

  await page.getByLabel('Question').fill('What is this?');
  await page.getByRole('button', { name: 'Ask' }).click();
  const expected = answerTo('What is this?').join('');
  await until('a part of the answer is there', ({ answer }) => answer !== '' && answer !== expected);
  await until('all of it is there', ({ answer, status }) => answer === expected && status === 'done');

  await page.getByRole('button', { name: 'Ask' }).click();
  await until('the next answer begins', ({ answer, status }) => answer !== '' && status === 'asking');
  await page.getByRole('button', { name: 'Stop' }).click();
  await until('it is stopped', ({ status }) => status === 'stopped');
  await world.until('the model stops', async () => (await generations(backend)).cancelled === 1);
});

claim("the commands in examples/llm's README show what they say", async (world) => {
  const { gateway } = await start(world, { TOKEN_MS: 2 });
  const [complete, count] = commandsOf('examples/llm/README.md', gateway.url);
  const stream = await world.command('sh', ['-c', complete]);
  assert.match(stream, /^data: \{"id":"chatcmpl-.*"delta":\{"content":"You"\}/m);
  assert.match(stream, /^data: \[DONE\]$/m);
  assert.equal(JSON.parse(await world.command('sh', ['-c', count])).finished, 1);
});

/** The example's backend and the gateway with its file, with heartbeats every second. */
async function start(world, { THINK_MS = 10, TOKEN_MS }) {
  const script = path.join(EXAMPLE, 'server.js');
  const backend = await world.server(
    'the model',
    (PORT) => world.child('the model', process.execPath, [script], { env: { HOST: ORIGIN_HOST, PORT, THINK_MS, TOKEN_MS } }),
    LISTENS,
  );
  const toml = fs
    .readFileSync(path.join(EXAMPLE, 'ssecast.toml'), 'utf8')
    .replaceAll('127.0.0.1:8080', '{listen}')
    .replaceAll('http://127.0.0.1:3000', backend.url)
    .replace('heartbeat = "15s"', 'heartbeat = "1s"');
  return { backend, gateway: await world.gatewayWith(`${toml}\n[admin]\naddress = "off"\n`) };
}

const urlOf = (gateway) => `${gateway.url}/v1/chat/completions`;

const messages = (content) => [{ role: 'user', content }];

async function generations(backend) {
  const response = await fetch(`${backend.url}/generations`, { signal: AbortSignal.timeout(10_000) });
  return response.json();
}

async function whole(pieces) {
  let text = '';
  for await (const piece of pieces) text += piece;
  return text;
}
