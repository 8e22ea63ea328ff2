// A cached query that an event stream keeps fresh. TanStack Query's cache, but no React.
//
// The state comes by a fetch, what changes by events, and in between nothing may be lost or undone:
//
//   1. The stream is opened before the state is fetched. What happens after the fetch comes as events.
//   2. Events that come while a fetch is under way are applied to what is there, and kept: the answer may
//      be from before them. Those that are newer than it are applied to it, too.
//   3. State and events have a version. What the state already has in it is not applied again.
//   4. When events may have been missed (a new `epoch` of the stream), the state is fetched again; also
//      if that comes in the middle of a fetch.

import { hashKey } from '@tanstack/react-query';

/** How long a fetch waits for the stream, before the state is shown without it. */
const STREAM_WAIT_MS = 2_000;

/** How long a query is kept fresh that nobody shows any more: somebody may come back. */
const LINGER_MS = 5_000;

/** The live queries of each cache, by the hashes of their keys. */
const clients = new WeakMap();

/** The one live query of this key, however many components show it; it is made if there is none. */
export function liveQuery(client, stream, queryKey) {
  const queries = clients.get(client) ?? begin(client);
  const hash = hashKey(queryKey);
  let query = queries.get(hash);
  if (!query) {
    query = new LiveQuery(client, stream, queryKey);
    queries.set(hash, query);
  }
  return query;
}

function begin(client) {
  const queries = new Map();
  clients.set(client, queries);
  // What the cache has forgotten, we may forget.
  client.getQueryCache().subscribe(({ type, query: { queryHash } }) => {
    if (type === 'removed' && !queries.get(queryHash)?.isHeld) queries.delete(queryHash);
  });
  return queries;
}

class LiveQuery {
  #client;
  #stream;
  #queryKey;
  #nHolders = 0;
  #lingering = null;
  #stop = null;
  /**
   * In which epoch of the stream the fetch began whose answer is in the cache; `null`: what is there may be
   * out of date. (The cache knows that, too, but forgets it with the next `setQueryData`.)
   */
  #epoch = null;
  /** The version of the newest change that is in the cache. */
  #version = -1;
  /** For each fetch that is under way, the events since it began. */
  #recordings = new Set();

  /** What to do with events: `(data, change) => data`, by event type. The newest that was given. */
  handlers = {};

  constructor(client, stream, queryKey) {
    this.#client = client;
    this.#stream = stream;
    this.#queryKey = queryKey;
  }

  get isHeld() {
    return this.#stop !== null;
  }

  /**
   * Keeps the query fresh until the function that it gives is called. Several may hold it, and one that
   * lets go may come back in a moment, as React's StrictMode does, and nothing happens.
   */
  hold() {
    this.#nHolders += 1;
    clearTimeout(this.#lingering);
    this.#stop ??= this.#stream.listen({ onEvent: this.#receive, onLoss: this.#refetch });
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#nHolders -= 1;
      if (this.#nHolders === 0) this.#lingering = setTimeout(this.#end, LINGER_MS);
    };
  }

  /** Fetches again what is in the cache, if it is not what this has put there and kept fresh since. */
  check() {
    const { data, fetchStatus } = this.#client.getQueryState(this.#queryKey) ?? {};
    const isFresh = this.#epoch !== null && this.#epoch === this.#stream.epoch;
    if (data !== undefined && fetchStatus === 'idle' && !isFresh) this.#refetch();
  }

  /** For `queryFn`: the state by `fetchState`, and in it all events that are newer. */
  async fetch(fetchState, context) {
    const release = this.hold();
    const recording = [];
    this.#recordings.add(recording);
    try {
      await this.#stream.untilLive(STREAM_WAIT_MS);
      let epoch;
      let data;
      do {
        context.signal.throwIfAborted();
        epoch = this.#stream.epoch;
        recording.length = 0;
        data = await fetchState(context);
      } while (epoch !== this.#stream.epoch);
      context.signal.throwIfAborted();

      this.#epoch = epoch;
      this.#version = data.version;
      return recording.reduce((data, event) => this.#apply(data, event), data);
    } finally {
      this.#recordings.delete(recording);
      release();
    }
  }

  #receive = (event) => {
    for (const recording of this.#recordings) recording.push(event);
    if (!Object.hasOwn(this.handlers, event.type)) return;
    this.#client.setQueryData(this.#queryKey, (data) => data && this.#apply(data, event));
  };

  #apply(data, { type, data: change }) {
    if (!Object.hasOwn(this.handlers, type) || change.version <= this.#version) return data;
    this.#version = change.version;
    return this.handlers[type](data, change);
  }

  #refetch = () => {
    // A fetch that is under way sees the new epoch by itself.
    if (this.#recordings.size > 0) return;
    this.#epoch = null;
    this.#client.invalidateQueries({ queryKey: this.#queryKey, exact: true });
  };

  #end = () => {
    this.#stop();
    this.#stop = null;
    this.#epoch = null;
    // From here on it is out of date: whoever shows it next fetches it.
    this.#client.invalidateQueries({ queryKey: this.#queryKey, exact: true, refetchType: 'none' });
  };
}
