// A server under test that a test kills and starts again, at the address where clients know it.

export class Server {
  #start;
  #address;
  #child = null;
  #port = 0;

  constructor(name, start, address) {
    this.name = name;
    this.#start = start;
    this.#address = address;
  }

  async start() {
    this.#child = this.#start(this.#port);
    const [, host, port] = await this.#child.logged('logs the address it listens on', this.#address);
    this.host = host;
    this.#port = Number(port);
  }

  /** Ends it as a crash would. */
  async kill() {
    await this.#child.kill();
  }

  /** Ends it as a service manager would. */
  async stop() {
    await this.#child.stop();
  }

  get port() {
    return this.#port;
  }

  get url() {
    return `http://${this.host}:${this.#port}`;
  }
}
