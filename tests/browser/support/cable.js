// A TCP proxy between a client and the gateway that a test can cut, as a lost network would.

import net from 'node:net';

export class Cable {
  /** The request heads that went through, as sent. */
  requests = [];

  /** Connections that were turned away while it was cut. */
  nTurnedAway = 0;

  #isWhole = true;
  #sockets = new Set();
  #server;

  /** Lays a cable to this port of 127.0.0.1. */
  static async lay(port) {
    const cable = new Cable();
    cable.#server = net.createServer((near) => cable.#connect(near, port));
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

  mend() {
    this.#isWhole = true;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #connect(near, port) {
    if (!this.#isWhole) {
      this.nTurnedAway += 1;
      near.destroy();
      return;
    }
    const far = net.connect(port, '127.0.0.1');
    this.#join(near, far);
    this.#join(far, near);
    this.#record(near);
  }

  #join(from, to) {
    this.#sockets.add(from);
    from.pipe(to);
    from.on('error', () => {}); // 'close' follows
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
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
