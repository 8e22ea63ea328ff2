// A copy of what a server has, kept fresh by its events, in a page without a framework.
//
//   const stream = openStream('/events');
//   const prices = liveQuery(stream, {
//     fetch: (signal) => getJson('/api/prices', signal),   // { seq, rows }
//     on: { price: (rows, row) => … },                     // the rows after this event
//     onChange: ({ rows, status }) => …,
//   });
//
// What makes it right, and not only mostly right:
//
// 1. The state is fetched when the stream is open, so whatever happens after the fetch is an event.
// 2. Events that come while a fetch is under way are applied to its answer, too. What the answer
//    knows already (`seq`) is left out.
// 3. Where events may be missing (`ssecast.gap`, `ssecast.reset`), the state is fetched again. So it
//    is when the stream opens and no event has come yet, because then there is no id to resume from.
// 4. A stream that is silent for longer than its heartbeats allow is dead, and opened anew with the
//    last id. A laptop that wakes up notices it by this.

/** What a page waits before it tries again, when its server says no or nothing: random, so that not all come at once. */
const AGAIN_MS = { min: 1_000, max: 5_000 };

/** How long an answer may take. */
const ANSWER_MS = 10_000;

/** Silence after which a stream is taken for dead, until its heartbeats say how often they come. */
const PATIENCE_MS = 45_000;

/** A connection to an event stream that several queries share. It lasts until it is closed. */
export function openStream(url) {
  const listeners = [];
  let source = null;
  let lastEventId = '';
  let patience = PATIENCE_MS;
  let heardAt = Date.now();
  let watchdog, again;

  const tell = (name, ...details) => {
    for (const listener of listeners) listener[name]?.(...details);
  };
  const alive = () => {
    heardAt = Date.now();
    clearTimeout(watchdog);
    watchdog = setTimeout(connect, patience);
  };
  // Timers stand still while a machine sleeps; the time of day does not.
  const lookAgain = () => {
    if (Date.now() - heardAt > patience) connect();
  };
  const listen = (type, handle) => {
    source.addEventListener(type, (event) => {
      alive();
      handle(event);
    });
  };

  function connect() {
    clearTimeout(again);
    source?.close();
    // A new EventSource knows no last event id; the query tells it. (When it reconnects by itself,
    // it sends a header field, which goes first.)
    source = new EventSource(
      lastEventId === '' ? url : `${url}?last_event_id=${encodeURIComponent(lastEventId)}`,
    );
    listen('open', () => tell('onOpen', { canResume: lastEventId !== '' }));
    listen('heartbeat', ({ data }) => {
      patience = 2 * JSON.parse(data).interval_ms;
      alive();
    });
    for (const type of ['ssecast.gap', 'ssecast.reset']) listen(type, () => tell('onLoss'));
    for (const type of new Set(listeners.flatMap((listener) => listener.types))) {
      listen(type, (event) => {
        lastEventId = event.lastEventId;
        tell('onEvent', event);
      });
    }
    source.onerror = () => {
      tell('onBroken');
      // It tries again by itself, except after an answer that is no event stream.
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(watchdog);
        again = setTimeout(connect, between(AGAIN_MS));
      }
    };
    alive();
  }

  return {
    /** Adds a listener, which is there before the first event: it connects after this turn. */
    listen(listener) {
      if (listeners.push(listener) > 1) return;
      queueMicrotask(connect);
      window.addEventListener('online', lookAgain);
      document.addEventListener('visibilitychange', lookAgain);
    },
    close() {
      window.removeEventListener('online', lookAgain);
      document.removeEventListener('visibilitychange', lookAgain);
      clearTimeout(watchdog);
      clearTimeout(again);
      source?.close();
    },
    get lastEventId() {
      return lastEventId;
    },
  };
}

/**
 * Rows as the server has them. `fetch` gives `{ seq, rows }`: the rows, and the number of the newest
 * event that they know. `on` has for each type of event what it makes of the rows.
 */
export function liveQuery(stream, { fetch, on, onChange }) {
  let state = null; // { seq, rows }: what is known
  let held = null; // the events since the fetch under way began; null: there is none
  let isStale = false; // something was missed after the fetch under way began
  let isOpen = false;

  const status = () => {
    if (!isOpen) return 'connecting';
    return held === null ? 'live' : 'fetching';
  };
  const say = () => onChange({ rows: state?.rows ?? null, status: status() });

  const applied = ({ seq, rows }, event) => {
    const number = Number(event.lastEventId);
    if (number <= seq) return { seq, rows };
    return { seq: number, rows: on[event.type](rows, JSON.parse(event.data)) };
  };

  async function refetch() {
    isStale = true;
    if (held !== null) return; // the loop below sees it
    while (isStale) {
      isStale = false;
      held = [];
      say();
      try {
        const answer = await fetch(AbortSignal.timeout(ANSWER_MS));
        if (!isStale) state = held.reduce(applied, answer);
      } catch (error) {
        console.warn(`the state could not be fetched: ${error.message}`);
        isStale = true;
        await new Promise((resolve) => setTimeout(resolve, between(AGAIN_MS)));
      }
    }
    held = null;
    say();
  }

  stream.listen({
    types: Object.keys(on),
    onOpen({ canResume }) {
      isOpen = true;
      if (canResume) say();
      else refetch();
    },
    onEvent(event) {
      if (!(event.type in on)) return;
      held?.push(event);
      if (state !== null) state = applied(state, event);
      say();
    },
    onLoss: refetch,
    onBroken() {
      isOpen = false;
      say();
    },
  });

  return {
    get state() {
      return state;
    },
    get status() {
      return status();
    },
  };
}

const between = ({ min, max }) => min + Math.random() * (max - min);
