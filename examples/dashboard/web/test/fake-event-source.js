// An EventSource whose other end is the test.

export class FakeEventSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;

  /** All that were made, the newest last. */
  static made = [];

  static install() {
    FakeEventSource.made = [];
    globalThis.EventSource = FakeEventSource;
  }

  static get newest() {
    return FakeEventSource.made.at(-1);
  }

  static get nOpen() {
    return FakeEventSource.made.filter(({ readyState }) => readyState !== FakeEventSource.CLOSED)
      .length;
  }

  readyState = FakeEventSource.CONNECTING;
  onopen = null;
  onerror = null;

  constructor(url) {
    super();
    this.url = url;
    FakeEventSource.made.push(this);
  }

  open() {
    this.readyState = FakeEventSource.OPEN;
    this.onopen?.();
  }

  /** Its connection broke, and it tries again by itself. */
  break() {
    this.readyState = FakeEventSource.CONNECTING;
    this.onerror?.();
  }

  /** It got an answer that was no event stream. */
  giveUp() {
    this.readyState = FakeEventSource.CLOSED;
    this.onerror?.();
  }

  send(type, data, lastEventId = '') {
    const text = typeof data === 'string' ? data : JSON.stringify(data);
    this.dispatchEvent(Object.assign(new Event(type), { data: text, lastEventId }));
  }

  /** A change, as the backend sends it. */
  change(version, fields = {}) {
    this.send('price', { version, ...fields }, String(version));
  }

  close() {
    this.readyState = FakeEventSource.CLOSED;
  }
}
