// A TCP proxy between a client and the gateway that a test can cut, as a lost network would.

import net from 'node:net';

export class Cable {
  /** The request heads that went through, as sent. */
  requests = [];

  /** Connections that were turned away while it was cut, or got no answer while it was silent. */
  nTurnedAway = 0;

  #isWhole = true;
  #isSilent = false;
  #sockets = new Set();
  #server;

  /** Lays a cable from a port of 127.0.0.1 to this one. */
  static async lay(port, host = '127.0.0.1') {
    const cable = new Cable();
    cable.#server = net.createServer((near) => cable.#connect(near, port, host));
    await new Promise((resolve, reject) => {
      cable.#server.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    return cable;
  }

  get port() {
    return this.#server.address().port;
  }

  /** Cuts all connections and turns new ones away, until it is mended. */
  cut() {
    this.#isWhole = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Lets nothing through any more, and tells neither side, as a network that is gone does. */
  silence() {
    this.#isSilent = true;
    for (const socket of this.#sockets) socket.unpipe().pause();
  }

  /** Whole again for new connections; those that were silenced have been forgotten on the way. */
  mend() {
    if (this.#isSilent) this.cut();
    this.#isSilent = false;
    this.#isWhole = true;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #connect(near, port, host) {
    if (!this.#isWhole || this.#isSilent) {
      this.nTurnedAway += 1;
      if (this.#isSilent) this.#keep(near.pause());
      else near.destroy();
      return;
    }
    const far = net.connect(port, host);
    this.#join(near, far);
    this.#join(far, near);
    this.#record(near);
  }

  #join(from, to) {
    this.#keep(from);
    from.pipe(to);
    from.on('close', () => to.destroy());
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#sockets.delete(socket));
  }

  /** Keeps the head of the first request on a connection; a subscription has no second. */
  #record(near) {
    let head = '';
    const listen = (bytes) => {
      head += bytes.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      near.off('data', listen);
      this.requests.push(head.slice(0, end));
    };
    near.on('data', listen);
  }
}
