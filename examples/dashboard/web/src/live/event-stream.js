// An event stream that stays: an `EventSource` that comes back whatever happens, goes on where it was,
// and says when it can't. It needs no framework, and knows nothing of caches.
//
// What the browser does by itself: it comes back after a broken connection, and says which event it has
// seen last. What it does not do, and this does:
//   - it gives up for ever at any answer but 200 (a gateway that restarts, a proxy's error page);
//   - it does not notice a network that went away without a word (a laptop that slept, another Wi-Fi),
//     because it does not show heartbeats unless they are events;
//   - a new `EventSource` does not know where the one before was.
//
// One `EventStream` serves a whole page: it is open while somebody listens, however many do.

/** Event types that say: you may have missed something. The gateway's own, and one of our backend. */
const LOSSES = ['ssecast.reset', 'ssecast.gap', 'reset'];

/** How long silence is normal, until a heartbeat has said how often there are heartbeats. */
const PATIENCE_MS = 45_000;

/** How often it is looked whether there was silence for too long. */
const WATCH_MS = 2_000;

/** The wait before a new `EventSource`, after one that gave up: doubles from the first to the last. */
const WAIT_MS = { first: 1_000, last: 30_000 };

export class EventStream {
  #url;
  #types;
  #listeners = new Set();
  #watchers = new Set();
  #source = null;
  #lastSign = 0;
  #patience = PATIENCE_MS;
  #nFailures = 0;
  #again = null;
  #watch = null;
  #status;
  /** Whether an event of this epoch has come. */
  #isPlaced = false;

  /**
   * Grows when events may have been missed before now. Who has fetched the state in an earlier epoch
   * has to fetch it again.
   */
  epoch = 0;

  /** `types`: the types of the events to listen to. */
  constructor(url, { types = ['message'] } = {}) {
    this.#url = url;
    this.#types = types;
    this.#status = {
      state: 'closed', // | 'connecting' | 'live' | 'reconnecting' | 'cut'
      upstream: null, // what the gateway says of the backend: 'live', 'connecting', 'down', if it says so
      lastEventId: '',
      nEvents: 0,
      nLosses: 0,
    };
  }

  /** What there is to show. It is another object whenever something has changed. */
  get status() {
    return this.#status;
  }

  get isLive() {
    return this.#status.state === 'live';
  }

  /** Calls `watcher` when `status` has changed; gives how to stop. It does not keep the stream open. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /**
   * Listens, and keeps the stream open until the function that it gives is called.
   * `onEvent({ type, id, data })`: an event, its data parsed as JSON.
   * `onLoss(reason)`: there is a new `epoch`.
   */
  listen({ onEvent = () => {}, onLoss = () => {} }) {
    const listener = { onEvent, onLoss };
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#begin();
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#end();
    };
  }

  /** Waits until events come, but not for longer than this. The stream must be listened to. */
  untilLive(maxMs) {
    if (this.isLive) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        stop();
        resolve();
      };
      const timer = setTimeout(done, maxMs);
      const stop = this.watch(() => this.isLive && done());
    });
  }

  /** For demonstrations: as if the network was gone, until `mend`. */
  cut() {
    this.#close();
    this.#show({ state: 'cut' });
  }

  mend() {
    if (this.#status.state !== 'cut') return;
    this.#show({ state: 'reconnecting' });
    if (this.#listeners.size > 0) this.#connect();
  }

  #begin() {
    this.#watch = setInterval(this.#lookAfter, WATCH_MS);
    for (const [target, type] of WAKERS) target?.addEventListener(type, this.#lookAfter);
    globalThis.addEventListener?.('online', this.#comeBack);
    if (this.#status.state !== 'cut') this.#connect();
  }

  #end() {
    clearInterval(this.#watch);
    for (const [target, type] of WAKERS) target?.removeEventListener(type, this.#lookAfter);
    globalThis.removeEventListener?.('online', this.#comeBack);
    this.#close();
    if (this.#status.state !== 'cut') this.#show({ state: 'closed', upstream: null });
  }

  #connect() {
    this.#close();
    const { lastEventId } = this.#status;
    // It can't be told in a header field, but in the query.
    const url = lastEventId
      ? `${this.#url}?last_event_id=${encodeURIComponent(lastEventId)}`
      : this.#url;
    const source = new EventSource(url);
    this.#source = source;
    this.#lastSign = Date.now();
    this.#showAway();

    source.onopen = () => {
      this.#lastSign = Date.now();
      // Without an id, it begins with what comes from now on.
      const isResumed = this.#status.lastEventId !== '';
      this.#show({ state: 'live' });
      if (!isResumed) this.#beginEpoch('begun anew');
    };
    source.onerror = () => {
      this.#showAway();
      // Else the browser comes back by itself.
      if (source.readyState === EventSource.CLOSED) this.#comeBackLater();
    };
    for (const type of this.#types) source.addEventListener(type, this.#receive);
    for (const type of LOSSES) {
      source.addEventListener(type, (event) => {
        this.#alive(event);
        this.#beginEpoch(`${type} ${event.data}`);
      });
    }
    source.addEventListener('heartbeat', (event) => {
      this.#alive(event);
      const { interval_ms: interval } = JSON.parse(event.data);
      this.#patience = 2 * interval + 1_000;
    });
    source.addEventListener('ssecast.upstream', (event) => {
      this.#alive(event);
      const { state } = JSON.parse(event.data);
      const isBack =
        state === 'live' && this.#status.upstream !== null && this.#status.upstream !== 'live';
      this.#show({ upstream: state });
      // Where no event has come in this epoch, nobody knows what the backend sent before the gateway was
      // connected to it; the gateway itself may have begun anew.
      if (isBack && !this.#isPlaced) this.#beginEpoch('the upstream began');
    });
  }

  #close() {
    clearTimeout(this.#again);
    this.#again = null;
    this.#source?.close();
    this.#source = null;
  }

  #receive = (event) => {
    this.#alive(event);
    this.#show({ nEvents: this.#status.nEvents + 1 });
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return this.#beginEpoch(`an event whose data is not JSON: ${event.lastEventId}`);
    }
    this.#tell('onEvent', { type: event.type, id: event.lastEventId, data });
  };

  /** Every event is a sign of life, and may say where we are; those of the gateway itself do not. */
  #alive({ lastEventId }) {
    this.#lastSign = Date.now();
    this.#nFailures = 0;
    if (!lastEventId || lastEventId === this.#status.lastEventId) return;
    this.#isPlaced = true;
    this.#show({ lastEventId });
  }

  #beginEpoch(reason) {
    this.epoch += 1;
    this.#isPlaced = false;
    if (this.epoch > 1) this.#show({ nLosses: this.#status.nLosses + 1 }); // before the first there was nothing
    this.#tell('onLoss', reason);
  }

  /** One listener's mistake is not the others' loss. */
  #tell(what, value) {
    for (const listener of [...this.#listeners]) {
      try {
        listener[what](value);
      } catch (error) {
        console.error(error);
      }
    }
  }

  /** By the clock and not by a timer for each event: timers stand still in a laptop that sleeps. */
  #lookAfter = () => {
    if (this.#source && Date.now() - this.#lastSign > this.#patience) this.#connect();
  };

  /** There is a network again: no need to wait. */
  #comeBack = () => {
    if (this.#status.state === 'reconnecting' || this.#status.state === 'connecting')
      this.#connect();
  };

  #comeBackLater() {
    this.#close();
    const wait = Math.min(WAIT_MS.last, WAIT_MS.first * 2 ** this.#nFailures);
    this.#nFailures += 1;
    // Random, so that not all pages come back in the same moment.
    this.#again = setTimeout(() => this.#connect(), wait * (0.5 + Math.random() / 2));
  }

  #showAway() {
    const { state } = this.#status;
    this.#show({
      state: state === 'closed' || state === 'connecting' ? 'connecting' : 'reconnecting',
    });
  }

  #show(changes) {
    this.#status = { ...this.#status, ...changes };
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** When a page that was asleep may be awake again. */
const WAKERS = [
  [globalThis.document, 'visibilitychange'],
  [globalThis.document, 'resume'],
  [globalThis, 'pageshow'],
].filter(([target]) => target?.addEventListener);
