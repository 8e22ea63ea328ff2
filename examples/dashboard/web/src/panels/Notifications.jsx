import { useMutation, useQueryClient } from '@tanstack/react-query';
import { memo, useRef } from 'react';

import { getJson, sendJson } from '../api.js';
import { useLiveQuery } from '../live/useLiveQuery.js';
import { changes } from '../network.js';
import { SHOWN, applyNotification } from '../notifications.js';
import { Time } from './Time.jsx';

const KEY = ['notifications'];

export function Notifications() {
  const { data, failureCount } = useLiveQuery({
    stream: changes,
    queryKey: KEY,
    queryFn: ({ signal }) => getJson('/api/notifications', { signal }),
    on: { notification: applyNotification },
  });
  const { create, read, readAll } = useChanges();
  const unread = data?.notifications.filter(({ read_at }) => read_at === null).length ?? 0;
  const list = useRef(null);
  // The button that was pressed goes away; the list keeps the keyboard's place.
  const keepFocus = () => list.current?.focus({ preventScroll: true });

  function submit(event) {
    event.preventDefault();
    const form = event.currentTarget;
    const { title, level } = Object.fromEntries(new FormData(form));
    if (title.trim()) create.mutate({ title, level }, { onSuccess: () => form.reset() });
  }

  return (
    <section className="panel notifications" aria-labelledby="notifications-title">
      <div className="head">
        <h2 id="notifications-title">Notifications</h2>
        <span className="badge" data-testid="unread">
          {unread === SHOWN ? `${SHOWN} or more` : unread} unread
        </span>
        <button
          type="button"
          className="plain"
          disabled={unread === 0}
          onClick={() => {
            readAll.mutate();
            keepFocus();
          }}
        >
          Mark all as read
        </button>
      </div>
      <Announcement newest={data?.notifications[0]} />
      <div
        className="scroll"
        ref={list}
        tabIndex={0}
        role="group"
        aria-labelledby="notifications-title"
      >
        {data?.notifications.length > 0 ? (
          <ul>
            {data.notifications.map((row) => (
              <Notification
                key={row.id}
                row={row}
                onRead={() => {
                  read.mutate(row.id);
                  keepFocus();
                }}
              />
            ))}
          </ul>
        ) : (
          <p className="quiet empty">
            {data ? 'Nothing yet. Send one below: everybody gets it.' : waiting(failureCount)}
          </p>
        )}
      </div>
      <form className="compose" onSubmit={submit}>
        <label className="wide">
          <span>Title</span>
          <input
            name="title"
            required
            maxLength={120}
            autoComplete="off"
            placeholder="Deploy finished"
          />
        </label>
        <label className="narrow">
          <span>Kind</span>
          <select name="level" defaultValue="info">
            <option value="info">Info</option>
            <option value="success">Success</option>
            <option value="warning">Warning</option>
          </select>
        </label>
        <button type="submit" disabled={create.isPending}>
          Send notification
        </button>
        <p className="error" role="alert">
          {create.error?.message ?? read.error?.message ?? readAll.error?.message}
        </p>
      </form>
    </section>
  );
}

/**
 * What this page changes itself. The answer goes into the cache at once; the event that says the same
 * comes a moment later, and finds it there.
 */
function useChanges() {
  const client = useQueryClient();
  const apply = (row) => client.setQueryData(KEY, (data) => data && applyNotification(data, row));
  return {
    create: useMutation({
      mutationFn: (notification) => sendJson('POST', '/api/notifications', notification),
      onSuccess: apply,
    }),
    read: useMutation({
      mutationFn: (id) => sendJson('PATCH', `/api/notifications/${id}`, { read: true }),
      onSuccess: apply,
    }),
    readAll: useMutation({
      mutationFn: () => sendJson('POST', '/api/notifications/read'),
      onSuccess: ({ notifications }) => notifications.forEach(apply),
    }),
  };
}

const Notification = memo(
  function Notification({ row, onRead }) {
    const isRead = row.read_at !== null;
    return (
      <li
        className={row.level}
        data-testid={`notification-${row.id}`}
        data-read={isRead}
        data-version={row.version}
      >
        <Icon level={row.level} />
        <div>
          <p className="title">
            <span className="hidden">{isRead ? 'Read: ' : 'Unread: '}</span>
            {row.title}
          </p>
          {row.body && <p className="body">{row.body}</p>}
          <Time at={row.created_at} />
        </div>
        {!isRead && (
          <button
            type="button"
            className="plain"
            onClick={onRead}
            aria-label={`Mark as read: ${row.title}`}
          >
            Mark as read
          </button>
        )}
      </li>
    );
  },
  (before, after) => before.row === after.row,
);

/** Tells screen readers of a notification that has just come; not of those that were there. */
function Announcement({ newest }) {
  const first = useRef(undefined);
  if (first.current === undefined && newest) first.current = newest.id;
  const isNew = newest && newest.id > first.current;
  return (
    <p className="hidden" role="status">
      {isNew ? `Notification: ${newest.title}` : ''}
    </p>
  );
}

function Icon({ level }) {
  const path = {
    info: 'M12 11v6M12 7v.5',
    success: 'm7 12.5 3.5 3.5L17 9',
    warning: 'M12 7v6M12 16.5v.5',
  }[level];
  return (
    <svg className="icon" viewBox="0 0 24 24" role="img" aria-label={level}>
      <circle cx="12" cy="12" r="10" />
      <path d={path} />
    </svg>
  );
}

function waiting(failureCount) {
  return failureCount > 0 ? 'The notifications can’t be had. Trying again…' : 'Loading…';
}
