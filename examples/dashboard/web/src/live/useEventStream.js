// What an EventStream has to say of itself, for components that show it.

import { useSyncExternalStore } from 'react';

export function useEventStream(stream) {
  return useSyncExternalStore(
    (watcher) => stream.watch(watcher),
    () => stream.status,
  );
}
