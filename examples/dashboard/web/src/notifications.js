// What an event, or the answer to a request, does to the notifications in the cache.

/** How many are kept: as many as the backend gives. */
export const SHOWN = 50;

/**
 * Puts a notification in its place, the newest first. It compares versions row by row, because the
 * answer to "mark as read" and the event that says so are the same change, and either may come first.
 */
export function applyNotification(data, change) {
  const known = data.notifications.find((row) => row.id === change.id);
  if (known && known.version >= change.version) return data;
  const others = data.notifications.filter((row) => row.id !== change.id);
  const notifications = [...others, change].sort((a, b) => b.id - a.id).slice(0, SHOWN);
  return { ...data, notifications };
}
