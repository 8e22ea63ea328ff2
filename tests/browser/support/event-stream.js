// An event stream as a test reads it: a parser, and a plain client that keeps all that it was sent.
//
// The parser knows what the gateway writes (line feeds, no byte order mark) and no more. The
// gateway's own parser is tested elsewhere; here browsers and curl are the judges.

import http from 'node:http';
import https from 'node:https';
import { StringDecoder } from 'node:string_decoder';

/** Collects events, comments and the reconnection time from the bytes of an event stream. */
export class EventLog {
  /** Dispatched events, in order: `{ type, id, data }`, `id` being the last event ID by then. */
  events = [];

  /** Comments, without the colon. */
  comments = [];

  /** The last reconnection time, in milliseconds; `null` before the first. */
  retry = null;

  #decoder = new StringDecoder('utf8');
  #rest = '';
  #type = '';
  #data = [];
  #lastEventId = '';

  /** Takes the next bytes of the stream. */
  push(bytes) {
    const lines = (this.#rest + this.#decoder.write(bytes)).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === '') return this.#dispatch();
    if (line.startsWith(':')) return this.comments.push(line.slice(1));
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === 'event') this.#type = value;
    if (field === 'data') this.#data.push(value);
    if (field === 'id') this.#lastEventId = value;
    if (field === 'retry') this.retry = Number(value);
  }

  #dispatch() {
    if (this.#data.length > 0) {
      const type = this.#type || 'message';
      this.events.push({ type, id: this.#lastEventId, data: this.#data.join('\n') });
    }
    this.#type = '';
    this.#data = [];
  }
}

/** A subscriber that reads until it is closed, over a TCP connection of its own. */
export class Reader extends EventLog {
  /** The answer's status code and header fields; `null` before the answer. */
  status = null;
  headers = null;

  /** `null` while connected, else why not any more. */
  ended = null;

  /** `tls` says what to trust, for a URL of https. */
  constructor(url, headers = {}, tls = {}) {
    super();
    const { get } = url.startsWith('https:') ? https : http;
    this.request = get(url, { agent: false, headers, ...tls }, (response) => {
      this.status = response.statusCode;
      this.headers = response.headers;
      response.on('data', (bytes) => this.push(bytes));
      response.on('end', () => (this.ended ??= 'the stream ended'));
      response.on('error', (error) => (this.ended ??= error.message));
    });
    this.request.on('error', (error) => (this.ended ??= error.message));
  }

  close() {
    this.ended ??= 'closed by the test';
    this.request.destroy();
  }
}
