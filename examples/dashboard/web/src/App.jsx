import { Chat } from './panels/Chat.jsx';
import { Connection, ConnectionState } from './panels/Connection.jsx';
import { Notifications } from './panels/Notifications.jsx';
import { Prices } from './panels/Prices.jsx';

export function App() {
  return (
    <>
      <a className="skip" href="#main">
        Skip to the prices
      </a>
      <header className="top">
        <svg className="mark" viewBox="0 0 24 24" aria-hidden="true">
          <rect width="24" height="24" rx="6" />
          <path d="M3 15c3-6 6-6 9 0s6 6 9 0" />
        </svg>
        <h1>Tideline</h1>
        <p>Live prices, notifications and chat, all behind one gateway</p>
        <ConnectionState />
      </header>
      <main id="main" tabIndex={-1}>
        <Connection />
        <Prices />
        <Notifications />
        <Chat />
      </main>
    </>
  );
}
