// docs/guide.md and the READMEs of the examples: their code is that of the files, and it works.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { blocksOf, read } from './support/documents.js';
import { GATEWAY, ROOT, claim } from './support/world.js';

const DOCUMENTS = ['docs/guide.md', ...examples().map((name) => `examples/${name}/README.md`)];

test('every block of JavaScript in the guide stands in a file of the examples', () => {
  const sources = examples().flatMap((name) => filesIn(path.join(ROOT, 'examples', name)));
  const texts = sources.map((file) => fs.readFileSync(file, 'utf8'));
  const blocks = blocksOf('docs/guide.md', 'js');
  assert.ok(blocks.length >= 4, `only ${blocks.length} blocks`);
  for (const block of blocks) {
    assert.ok(texts.some((text) => text.includes(block)), `nowhere in examples/:\n${block}`);
  }
});

test('every block of JSON in the guide is JSON', () => {
  for (const block of blocksOf('docs/guide.md', 'json')) JSON.parse(block);
});

test('every link to a file leads to one', () => {
  let n = 0;
  for (const document of [...DOCUMENTS, 'README.md']) {
    for (const [, target] of read(document).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const file = path.resolve(ROOT, path.dirname(document), target);
      assert.ok(fs.existsSync(file), `${document} links to ${target}, which is not there`);
      n += 1;
    }
  }
  assert.ok(n >= 20, `only ${n} links`);
});

claim('every configuration in the guide and in the examples is valid', async (world) => {
  const directory = world.directory();
  await world.certificate(directory); // where the documents have yours
  const check = async (name, toml) => {
    const file = path.join(directory, 'ssecast.toml');
    const isWhole = toml.includes('[listen.');
    const whole = isWhole ? toml : `${toml}\n[listen.public]\naddress = "127.0.0.1:8080"\n`;
    fs.writeFileSync(file, whole.replaceAll('/etc/ssecast/tls/', `${directory}/`));
    await world.command(GATEWAY, ['check', file]).catch((error) => {
      assert.fail(`${name}: ${error.stdout}${error.stderr}\n${whole}`);
    });
  };
  let n = 0;
  for (const document of DOCUMENTS) {
    for (const block of blocksOf(document, 'toml')) {
      // What is about listeners alone is to be added to the example's own file.
      const isAddition = !/^\[(channels|proxies)\./m.test(block);
      const own = path.join(path.dirname(document), 'ssecast.toml');
      await check(document, isAddition ? `${read(own)}\n${block}` : block);
      n += 1;
    }
  }
  for (const file of configurations()) {
    await check(file, read(file));
    n += 1;
  }
  assert.ok(n >= 8, `only ${n} configurations`);
});

test("the READMEs show channels and proxies as they are in the examples' own files", () => {
  for (const file of configurations()) {
    const shown = blocksOf(path.join(path.dirname(file), 'README.md'), 'toml');
    const said = shown.filter((block) => /^\[(channels|proxies)\./m.test(block));
    const lines = meaningful(read(file));
    for (const line of meaningful(said.join('\n'))) {
      assert.ok(lines.includes(line), `not in ${file}: ${line}`);
    }
  }
});

function configurations() {
  const files = examples().map((name) => `examples/${name}/ssecast.toml`);
  return files.filter((file) => fs.existsSync(path.join(ROOT, file)));
}

function examples() {
  const directory = path.join(ROOT, 'examples');
  return fs.readdirSync(directory).filter((name) => fs.existsSync(path.join(directory, name, 'README.md')));
}

function filesIn(directory) {
  return fs
    .readdirSync(directory, { withFileTypes: true })
    .filter(({ name }) => !['node_modules', 'dist', 'data'].includes(name) && !name.startsWith('.'))
    .flatMap((entry) => {
      const file = path.join(directory, entry.name);
      if (entry.isDirectory()) return filesIn(file);
      return /\.(js|jsx|html)$/.test(entry.name) ? [file] : [];
    });
}

/** Lines without comments and empty lines. */
function meaningful(toml) {
  return toml
    .split('\n')
    .map((line) => line.replace(/\s*#.*$/, '').trim())
    .filter((line) => line !== '');
}
