import { memo, useEffect, useLayoutEffect, useRef, useState, useSyncExternalStore } from 'react';

import { chat } from '../network.js';
import { Time } from './Time.jsx';

const STATES = {
  closed: 'Connecting…',
  connecting: 'Connecting…',
  open: 'Connected',
  cut: 'Network cut',
};

export function Chat() {
  const { state, messages, pending, error } = useSyncExternalStore(chat.watch, () => chat.status);
  const [name, setName] = useState(rememberedName);
  const [text, setText] = useState('');
  const log = useStickToEnd(messages.length + pending.length);
  useEffect(() => chat.hold(), []);

  function submit(event) {
    event.preventDefault();
    if (!name.trim() || !text.trim()) return;
    remember(name.trim());
    chat.say(name.trim(), text.trim());
    setText('');
  }

  return (
    <section className="panel chat" aria-labelledby="chat-title">
      <div className="head">
        <h2 id="chat-title">Chat</h2>
        <span
          className={`badge dot ${state === 'open' ? 'good' : 'fair'}`}
          data-testid="chat-state"
        >
          {STATES[state]}
        </span>
      </div>
      <div className="scroll" ref={log} tabIndex={0} role="log" aria-label="Messages">
        {messages.length + pending.length === 0 && (
          <p className="quiet empty">Nobody has said anything yet.</p>
        )}
        {messages.map((message) => (
          <Message key={message.key} message={message} isMine={message.author === name.trim()} />
        ))}
        {pending.map((message) => (
          <Message key={message.key} message={message} isMine />
        ))}
      </div>
      <form className="compose" onSubmit={submit}>
        <label className="narrow">
          <span>Name</span>
          <input
            name="author"
            required
            maxLength={40}
            autoComplete="nickname"
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
        </label>
        <label>
          <span>Message</span>
          <input
            name="text"
            required
            maxLength={1000}
            autoComplete="off"
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <button type="submit">Send</button>
        <p className="error" role="alert">
          {error}
        </p>
      </form>
    </section>
  );
}

const Message = memo(function Message({ message, isMine }) {
  const { id, author, text, created_at: at } = message;
  return (
    <article
      className={isMine ? 'message mine' : 'message'}
      data-testid={id === undefined ? 'pending' : `message-${id}`}
    >
      <p className="author">
        {author} {at ? <Time at={at} /> : <span>sending…</span>}
      </p>
      <p className="text">{text}</p>
    </article>
  );
});

/** Keeps a list scrolled to its end, unless somebody reads further up. */
function useStickToEnd(length) {
  const list = useRef(null);
  const isAtEnd = useRef(true);
  useEffect(() => {
    const element = list.current;
    const look = () => {
      isAtEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    };
    element.addEventListener('scroll', look, { passive: true });
    return () => element.removeEventListener('scroll', look);
  }, []);
  useLayoutEffect(() => {
    if (isAtEnd.current) list.current.scrollTop = list.current.scrollHeight;
  }, [length]);
  return list;
}

/** Storage may be forbidden; then the name lasts as long as the page. */
function remember(name) {
  try {
    localStorage.setItem('name', name);
  } catch {
    // no harm done
  }
}

function rememberedName() {
  try {
    const name = localStorage.getItem('name');
    if (name) return name;
  } catch {
    // as if there was none
  }
  return `Guest ${100 + Math.floor(Math.random() * 900)}`;
}
