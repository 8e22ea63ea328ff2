// What the documents of the repository say, for tests that hold them to it.

import fs from 'node:fs';
import path from 'node:path';

import { ROOT } from './world.js';

export function read(file) {
  return fs.readFileSync(path.join(ROOT, file), 'utf8');
}

/** The fenced blocks of this language, without their fences. */
export function blocksOf(document, language) {
  const fence = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms');
  return [...read(document).matchAll(fence)].map(([, block]) => block);
}

/** The `curl` commands of a document, in order, which ask this gateway. */
export function commandsOf(document, gatewayUrl) {
  const lines = blocksOf(document, 'sh').join('').replaceAll('\\\n', ' ').split('\n');
  return lines
    .filter((line) => line.startsWith('curl '))
    .map((line) => line.replaceAll('http://127.0.0.1:8080', gatewayUrl).replace('curl ', 'curl -sS '));
}
