// Many clients, which only listen:  npm run crowd -- 500
//
// It tells how many events they got together. Behind the gateway the backend feeds one stream all the
// same: look at the dashboard's connection panel.

import http from 'node:http';

const n = Number(process.argv[2] ?? 100);
const url = process.argv[3] ?? `http://127.0.0.1:${process.env.PORT ?? 8080}/events`;
if (!Number.isInteger(n) || n < 1 || n > 10_000) {
  console.error('usage: npm run crowd -- NUMBER [URL]      NUMBER: 1 to 10000');
  process.exit(1);
}

let nOpen = 0;
let nEvents = 0;

function subscribe() {
  const again = () => setTimeout(subscribe, 1_000 + Math.random() * 4_000);
  const request = http.get(
    url,
    { agent: false, headers: { Accept: 'text/event-stream' } },
    (response) => {
      nOpen += 1;
      response.setEncoding('utf8');
      response.on('data', (text) => (nEvents += text.split('\nid: ').length - 1));
      response.on('error', () => {}); // 'close' follows
      response.once('close', () => {
        nOpen -= 1;
        again();
      });
    },
  );
  request.once('error', () => request.res ?? again());
}

for (let i = 0; i < n; i += 1) subscribe();
setInterval(() => {
  console.log(`${nOpen} clients, ${nEvents} events in the last second`);
  nEvents = 0;
}, 1_000);
