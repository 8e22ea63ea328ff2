// useQuery, kept fresh by events.
//
//   const prices = useLiveQuery({
//     stream,                                              // an EventStream
//     queryKey: ['prices'],
//     queryFn: ({ signal }) => getJson('/api/prices', { signal }),   // { version, … }
//     on: { price: (data, change) => … },                  // by event type; change.version
//   });

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useSyncExternalStore } from 'react';

import { liveQuery } from './live-query.js';

/** How often the state is fetched while there are no events (a proxy in between that holds them back). */
const POLL_MS = 15_000;

export function useLiveQuery({ stream, queryKey, queryFn, on, ...options }) {
  const client = useQueryClient();
  const isLive = useSyncExternalStore(
    (watcher) => stream.watch(watcher),
    () => stream.isLive,
  );
  const query = liveQuery(client, stream, queryKey);

  useEffect(() => {
    query.handlers = on;
  });
  useEffect(() => {
    const release = query.hold();
    query.check();
    return release;
  }, [query]);

  return useQuery({
    queryKey,
    queryFn: (context) => {
      query.handlers = on;
      return query.fetch(queryFn, context);
    },
    // Events keep it fresh; so there is no need to look again whenever the window is.
    staleTime: Infinity,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
    refetchInterval: isLive ? false : POLL_MS,
    // It must not end with an old state: an event that comes after that would make it look fresh.
    retry: true,
    retryDelay: (n) => Math.min(10_000, 500 * 2 ** n) * (0.5 + Math.random() / 2),
    ...options,
  });
}
