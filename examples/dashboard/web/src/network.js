// The two connections of this page that stay open, and a switch that cuts both, for demonstrations.

import { onlineManager } from '@tanstack/react-query';

import { ChatSocket } from './chat-socket.js';
import { EventStream } from './live/event-stream.js';

/** What changes in the database. One stream for the whole page. */
export const changes = new EventStream('/events', { types: ['price', 'notification'] });

export const chat = new ChatSocket('/chat');

export function cutNetwork() {
  changes.cut();
  chat.cut();
  onlineManager.setOnline(false); // requests wait, too
}

export function mendNetwork() {
  onlineManager.setOnline(true);
  changes.mend();
  chat.mend();
}
