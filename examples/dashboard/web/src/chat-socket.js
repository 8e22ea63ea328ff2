// The chat's WebSocket, which comes back: a WebSocket, unlike an `EventSource`, does nothing of that by
// itself. It asks for what it missed by the id of the last message that it has seen, and says again what
// was not confirmed; the key of a message keeps the backend from saying it twice.

/** The wait before it connects again: doubles from the first to the last, and is random within that. */
const WAIT_MS = { first: 500, last: 15_000 };

/** How often it asks whether anybody is there, and how long it waits for the answer. */
const PING_MS = 20_000;
const PONG_MS = 10_000;

/** How many messages it keeps. */
const KEPT = 200;

export class ChatSocket {
  #path;
  #watchers = new Set();
  #socket = null;
  #nHolders = 0;
  #nFailures = 0;
  #again = null;
  #ping = null;
  #pong = null;

  /** What there is to show. It is another object whenever something has changed. */
  status = {
    state: 'closed', // | 'connecting' | 'open' | 'cut'
    messages: [], // what was said, as the backend confirmed it
    pending: [], // what is not confirmed yet
    error: null,
  };

  constructor(path) {
    this.#path = path;
  }

  watch = (watcher) => {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  };

  /** Stays connected until the function that it gives is called. */
  hold() {
    this.#nHolders += 1;
    if (this.status.state === 'closed') {
      globalThis.addEventListener('online', this.#comeBack);
      this.#connect();
    }
    return () => {
      this.#nHolders -= 1;
      // Who lets go may take hold again at once, as React's StrictMode does.
      setTimeout(() => this.#nHolders === 0 && this.#end());
    };
  }

  say(author, text) {
    const message = { key: randomKey(), author, text };
    this.#show({ pending: [...this.status.pending, message], error: null });
    this.#send({ type: 'say', ...message });
  }

  /** For demonstrations: as if the network was gone, until `mend`. */
  cut() {
    this.#close();
    this.#show({ state: 'cut' });
  }

  mend() {
    if (this.status.state !== 'cut') return;
    this.#connect();
  }

  #end() {
    globalThis.removeEventListener('online', this.#comeBack);
    this.#close();
    this.#show({ state: 'closed' });
  }

  #connect() {
    this.#close();
    this.#show({ state: 'connecting' });
    const url = new URL(this.#path, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    url.searchParams.set('after', this.status.messages.at(-1)?.id ?? 0);
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#show({ state: 'open' });
      for (const message of this.status.pending) this.#send({ type: 'say', ...message });
      this.#ping = setInterval(() => this.#areYouThere(), PING_MS);
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = () => this.#comeBackLater(); // an error is followed by it
  }

  #receive(answer) {
    this.#nFailures = 0;
    clearTimeout(this.#pong);
    this.#pong = null;
    const { messages, pending } = this.status;
    if (answer.type === 'message') {
      const { type, ...message } = answer;
      if (message.id <= (messages.at(-1)?.id ?? 0)) return;
      this.#show({
        messages: [...messages, message].slice(-KEPT),
        pending: pending.filter(({ key }) => key !== message.key),
      });
    } else if (answer.type === 'said' || answer.type === 'error') {
      this.#show({
        pending: pending.filter(({ key }) => key !== answer.key),
        error: answer.error ?? null,
      });
    }
  }

  #areYouThere() {
    this.#send({ type: 'ping' });
    this.#pong ??= setTimeout(() => this.#connect(), PONG_MS);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #close() {
    clearTimeout(this.#again);
    clearInterval(this.#ping);
    clearTimeout(this.#pong);
    this.#pong = null;
    if (!this.#socket) return;
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #comeBack = () => {
    if (this.status.state === 'connecting') this.#connect();
  };

  #comeBackLater() {
    this.#close();
    this.#show({ state: 'connecting' });
    const wait = Math.min(WAIT_MS.last, WAIT_MS.first * 2 ** this.#nFailures);
    this.#nFailures += 1;
    this.#again = setTimeout(() => this.#connect(), wait * (0.5 + Math.random() / 2));
  }

  #show(changes) {
    this.status = { ...this.status, ...changes };
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** `crypto.randomUUID` is only there over https and on localhost. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('');
}
