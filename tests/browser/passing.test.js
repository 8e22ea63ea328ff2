// What passes through, by real tools: nginx is the origin; curl, wrk and h2load ask.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { promisify } from 'node:util';

import { KEEP_ALIVE_MS, Nginx } from './support/nginx.js';
import { claim } from './support/world.js';

/** How curl asks the gateway, and how its certificate comes into it. */
const WAYS = [
  { name: 'HTTP/1.1', scheme: 'http', args: ['--http1.1'], version: 'HTTP/1.1' },
  { name: 'HTTP/2 by prior knowledge', scheme: 'http', args: ['--http2-prior-knowledge'], version: 'HTTP/2' },
  { name: 'HTTP/2 over TLS', scheme: 'https', args: ['--http2', '--insecure'], version: 'HTTP/2' },
  { name: 'HTTP/1.1 over TLS', scheme: 'https', args: ['--http1.1', '--insecure'], version: 'HTTP/1.1' },
];

const TEXT = Array.from({ length: 2_000 }, (_, n) => `line ${n}\n`).join('');
const SMALL = 'a small answer\n';
const FILES = {
  'text.txt': TEXT,
  'small.txt': SMALL,
  'empty.txt': '',
  'large.bin': crypto.randomBytes(5 * 1024 * 1024),
  'compressed/text.txt': TEXT,
  'chunked/text.txt': `<!--# echo var="request_method" -->\n${TEXT}`,
  'folder/index.html': '<p>a folder</p>\n',
  'a b%20ü.txt': 'a name to be encoded\n',
};

/** Requests for files: arguments for curl behind the path. */
const REQUESTS = {
  'a file': ['/text.txt'],
  'a large file': ['/large.bin'],
  'an empty file': ['/empty.txt'],
  'a file that is not there': ['/nowhere.txt'],
  'a folder without its slash': ['/folder'],
  'a folder': ['/folder/?a=1&b=%2F'],
  'an encoded name': ['/a%20b%2520%C3%BC.txt'],
  'a head': ['/text.txt', '--head'],
  'the head of a compressed answer': ['/compressed/text.txt', '--head', '--compressed'],
  'a range': ['/text.txt', '--range', '100-199'],
  'the end of a file': ['/large.bin', '--range', '-1000'],
  'two ranges': ['/text.txt', '--range', '0-9,100-109'],
  'a range that is not there': ['/text.txt', '--range', '9999999-'],
  'a range of a head': ['/text.txt', '--head', '--range', '0-9'],
  'what has not changed since': ['/text.txt', '--header', 'If-Modified-Since: {modified}'],
  'what is known by its tag': ['/text.txt', '--header', 'If-None-Match: {etag}'],
  'another tag': ['/text.txt', '--header', 'If-None-Match: "other"'],
  'what is not as it was': ['/text.txt', '--header', 'If-Match: "other"'],
  'a range of what is as it was': ['/text.txt', '--range', '0-9', '--header', 'If-Range: {etag}'],
  'a range of what is not': ['/text.txt', '--range', '0-9', '--header', 'If-Range: "other"'],
  'a compressed answer': ['/compressed/text.txt', '--header', 'Accept-Encoding: gzip'],
  'an answer in chunks': ['/chunked/text.txt'],
  'a method that is not allowed': ['/text.txt', '--request', 'POST', '--data', 'a=1'],
  'a method of its own': ['/text.txt', '--request', 'PURGE'],
};

for (const way of WAYS) {
  claim(`curl by ${way.name} gets from nginx what it gets without the gateway`, async (world) => {
    const nginx = await Nginx.start(world, FILES);
    const gateway = await passing(world, nginx, way.scheme);
    const { fields } = await curl([`${nginx.url}/text.txt`, '--head']);
    for (const [what, [file, ...args]] of Object.entries(REQUESTS)) {
      const options = args.map((text) =>
        text.replace('{etag}', fields.etag).replace('{modified}', fields['last-modified']),
      );
      const direct = await curl([`${nginx.url}${file}`, ...options]);
      const through = await curl([`${gateway.url}${file}`, ...options, ...way.args]);
      assert.equal(through.version, way.version, what);
      assert.equal(through.fields.via, '1.1 ssecast', what);
      assert.deepEqual(comparable(through), comparable(direct), what);
    }
  });

  claim(`curl by ${way.name} uploads to nginx, with a length and without`, async (world) => {
    const nginx = await Nginx.start(world, FILES);
    const gateway = await passing(world, nginx, way.scheme);
    const file = path.join(nginx.directory, 'files/large.bin');
    const kinds = {
      'upload.bin': ['--upload-file', file],
      'expected.bin': ['--upload-file', file, '--header', 'Expect: 100-continue', '--expect100-timeout', '20'],
      'chunked.bin': ['--upload-file', file, '--header', 'Transfer-Encoding: chunked'],
      'data.bin': ['--request', 'PUT', '--data-binary', `@${file}`, '--header', 'Content-Type: image/png'],
    };
    for (const [name, args] of Object.entries(kinds)) {
      const { status } = await curl([`${gateway.url}/uploads/${name}`, ...args, ...way.args]);
      assert.equal(status, 201, name);
      assert.ok(nginx.uploaded(name).equals(FILES['large.bin']), `${name} arrived as it was`);
    }
    const { status } = await curl([`${gateway.url}/uploads/data.bin`, '--request', 'DELETE', ...way.args]);
    assert.equal(status, 204);
    assert.throws(() => nginx.uploaded('data.bin'), /ENOENT/);
  });

  claim(`h2load by ${way.name} gets every answer, whole`, async (world) => {
    const N_REQUESTS = 5_000;
    const nginx = await Nginx.start(world, FILES);
    const gateway = await passing(world, nginx, way.scheme);
    const version = way.version === 'HTTP/1.1' ? ['--h1', '-m1', '-c32'] : ['-m20', '-c8'];
    for (const [file, n] of [['small.txt', N_REQUESTS], ['text.txt', N_REQUESTS / 10]]) {
      const report = await world.command('h2load', ['-n', n, ...version, `${gateway.url}/${file}`]);
      assert.match(report, new RegExp(`${n} succeeded, 0 failed, 0 errored, 0 timeout`), report);
      assert.match(report, new RegExp(`status codes: ${n} 2xx, 0 3xx, 0 4xx, 0 5xx`), report);
      assert.match(report, new RegExp(`\\(${n * FILES[file].length}\\) data`), report);
      const asked = nginx.requests().filter((line) => line === `GET /${file} 200`);
      assert.equal(asked.length, n, 'each was asked for once');
    }
  });
}

claim('wrk gets every answer, whole', async (world) => {
  const nginx = await Nginx.start(world, FILES);
  const gateway = await passing(world, nginx, 'http');
  const script = path.join(world.directory(), 'check.lua');
  fs.writeFileSync(script, `
local workers = {}
function setup(thread) table.insert(workers, thread) end
function init() n_right, n_wrong = 0, 0 end
function response(status, headers, body)
  if status == 200 and body == ${JSON.stringify(SMALL)} then
    n_right = n_right + 1
  else
    n_wrong = n_wrong + 1
  end
end
function done(summary)
  local right, wrong = 0, 0
  for _, worker in ipairs(workers) do
    right = right + worker:get("n_right")
    wrong = wrong + worker:get("n_wrong")
  end
  local e = summary.errors
  print(string.format("checked: %d right, %d wrong, %d errors", right, wrong,
    e.connect + e.read + e.write + e.status + e.timeout))
end
`);
  const args = ['--threads=1', '--connections=64', '--duration=3s', '--timeout=20s', '--script', script];
  const report = await world.command('wrk', [...args, `${gateway.url}/small.txt`]);
  const [, right] = /checked: (\d+) right, 0 wrong, 0 errors/.exec(report) ?? assert.fail(report);
  assert.ok(Number(right) >= 500, report);
});

claim('no request fails though nginx closes its idle connections meanwhile', async (world) => {
  const N_CLIENTS = 60;
  const N_ROUNDS = 5;
  const nginx = await Nginx.start(world, FILES);
  const gateway = await passing(world, nginx, 'http');
  const agent = new http.Agent({ keepAlive: true, maxSockets: N_CLIENTS });
  world.atEnd(() => agent.destroy());
  // Each round asks when the connections of the last one are about to be closed, a little sooner
  // and a little later than that.
  for (let round = 0; round < N_ROUNDS; round += 1) {
    const answers = await Promise.all(
      Array.from({ length: N_CLIENTS }, async (_, n) => {
        const wait = round === 0 ? 0 : KEEP_ALIVE_MS + n - N_CLIENTS / 2;
        await new Promise((resolve) => setTimeout(resolve, wait));
        return ask(`${gateway.url}/small.txt`, agent);
      }),
    );
    for (const answer of answers) assert.deepEqual(answer, { status: 200, body: SMALL });
  }
});

/** The gateway, passing all that it gets through to nginx. */
async function passing(world, nginx, scheme) {
  let tls = '';
  if (scheme === 'https') {
    const directory = world.directory();
    const [key, certificate] = ['key.pem', 'certificate.pem'].map((name) => path.join(directory, name));
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const args = ['req', '-x509', ...kind, '-days', '2', '-subj', '/CN=localhost'];
    await world.command('openssl', [...args, '-keyout', key, '-out', certificate]);
    tls = `tls = { certificate = "${certificate}", key = "${key}" }`;
  }
  const gateway = await world.gatewayWith(`
[server]
drain = "0s"

[listen.test]
address = "{listen}"
${tls}

[admin]
address = "off"

[proxies.all]
path = "/{*rest}"
upstream = "${nginx.url}"
`);
  return { url: gateway.url.replace('http:', `${scheme}:`) };
}

/** Asks with curl; gives the final status, its version, its fields and the content. */
async function curl(args) {
  const options = { encoding: 'latin1', maxBuffer: 64 * 1024 * 1024, timeout: 60_000 };
  const { stdout } = await promisify(execFile)('curl', ['-sS', '--include', ...args], options);
  let rest = stdout;
  for (;;) {
    const end = rest.indexOf('\r\n\r\n');
    assert.ok(end > 0, `no head: ${args.join(' ')}`);
    const [line, ...lines] = rest.slice(0, end).split('\r\n');
    rest = rest.slice(end + 4);
    const [version, status] = line.split(' ');
    if (status.startsWith('1')) continue; // 100 Continue
    const fields = Object.fromEntries(
      lines.map((field) => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 2)]),
    );
    return { version, status: Number(status), fields, body: rest };
  }
}

/** All of an answer but what is new with each, or belongs to the connection. */
function comparable({ status, fields, body }) {
  const { date, via, connection, 'keep-alive': keepAlive, 'transfer-encoding': coding, ...others } = fields;
  const boundary = /boundary=(\S+)/.exec(fields['content-type'] ?? '')?.[1];
  const plain = (text) => (boundary ? text.replaceAll(boundary, 'BOUNDARY') : text);
  const hash = crypto.createHash('sha256').update(plain(body), 'latin1').digest('hex');
  // That there is nothing HTTP/2 says otherwise, with the head.
  if (others['content-length'] === '0') delete others['content-length'];
  const named = Object.fromEntries(Object.entries(others).map(([name, value]) => [name, plain(value)]));
  return { status, fields: named, nBytes: body.length, hash };
}

function ask(url, agent) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, { agent, timeout: 20_000 }, (response) => {
      const chunks = [];
      response.on('error', reject).on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() }));
    });
    request.on('error', reject).on('timeout', () => request.destroy(new Error('no answer in time')));
  });
}
