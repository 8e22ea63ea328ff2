// What a page must survive, whatever it is made with. After each scenario its copy of the data is
// compared with the database: all rows, and what people see of them.

import assert from 'node:assert/strict';

import { fallAsleep } from './asleep.js';
import { claim } from './world.js';

/** More changes than the history of `inTestingTimes` holds. */
const N_MANY = 50;

/** Declares the scenarios for a kind of site; `start` starts one in a world. */
export function claimAll(name, start) {
  const scenario = (text, run) => {
    claim(`${name}: ${text}`, async (world) => {
      const site = await start(world);
      await run(new Stage(world, site));
    });
  };

  scenario('a page that opens shows what the database has, and then what changes', async (stage) => {
    await stage.change(5);
    const page = await stage.open();
    await stage.isRight(page, 'opened');
    await stage.change(5);
    await stage.isRight(page, 'changed');
  });

  scenario('changes during the first fetch are neither lost nor overwritten', async (stage) => {
    const page = await stage.blank();
    const answers = await stage.holdAnswers(page);
    await page.goto(stage.url);
    await answers.held('the page fetches the state');
    await stage.change(5);
    await stage.until('the events have reached the page', async () => (await stage.look(page)).lastEventId !== '', page);
    answers.release();
    await stage.isRight(page, 'the old answer came after the events');
  });

  scenario('a page that opens while everything changes has it right in the end', async (stage) => {
    const traffic = stage.traffic();
    const pages = [await stage.open(), await stage.open(), await stage.open()];
    await traffic.upTo(N_MANY);
    await traffic.end();
    for (const page of pages) await stage.isRight(page, 'opened during traffic');
  });

  scenario('the backend is killed and comes back', async (stage) => {
    const page = await stage.settled();
    const nFetches = stage.nFetches(page);
    const traffic = stage.traffic();
    await traffic.upTo(10);
    await stage.site.backend.kill();
    await stage.until('the backend is missed', () => traffic.nFailed > 0, page);
    await stage.site.backend.start();
    await traffic.upTo(10);
    await traffic.end();
    await stage.isRight(page, 'the backend was killed');
    assert.equal(stage.nFetches(page), nFetches, 'the gateway got what was missed; the page had nothing to do');
  });

  scenario('a page opens while the backend dies, and nothing can be fetched', async (stage) => {
    const page = await stage.settled();
    const late = await stage.blank();
    const answers = await stage.holdRequests(late);
    await late.goto(stage.url);
    await answers.held('the late page fetches the state');
    await stage.site.backend.kill();
    answers.release();
    await stage.until('its fetch fails', () => answers.nFailed > 0, late);
    await stage.site.backend.start();
    await stage.change(5);
    await stage.isRight(page, 'it was there before');
    await stage.isRight(late, 'it came when nothing could be fetched');
  });

  for (const [how, end, isExact] of [
    ['killed', (gateway) => gateway.kill(), false],
    ['stopped', (gateway) => gateway.stop(), true],
  ]) {
    scenario(`the gateway is ${how} and comes back`, async (stage) => {
      const page = await stage.settled();
      const nFetches = stage.nFetches(page);
      await end(stage.site.gateway);
      await stage.until('the page has noticed', async () => !(await stage.look(page)).isLive, page);
      await stage.change(5);
      await stage.site.gateway.start();
      await stage.isRight(page, `the gateway was ${how}`);
      if (isExact) assert.equal(stage.nFetches(page), nFetches, 'its successor had all that was missed');
      else assert.ok(stage.nFetches(page) > nFetches, 'its successor knows nothing, so the page fetched');
    });
  }

  scenario('both are killed, and come back in either order', async (stage) => {
    const page = await stage.settled();
    for (const order of [['backend', 'gateway'], ['gateway', 'backend']]) {
      await Promise.all(order.map((each) => stage.site[each].kill()));
      for (const each of order) await stage.site[each].start();
      await stage.change(3);
      await stage.isRight(page, `first the ${order[0]} came back`);
    }
  });

  scenario('the network is cut for a moment', async (stage) => {
    const page = await stage.settled();
    const nFetches = stage.nFetches(page);
    stage.cable.cut();
    await stage.until('the page tries in vain', () => stage.cable.nTurnedAway > 0, page);
    await stage.change(5);
    stage.cable.mend();
    await stage.isRight(page, 'the network was cut');
    assert.equal(stage.nFetches(page), nFetches, 'the history had what was missed');
  });

  scenario('the network is cut before the first event, for longer than the history', async (stage) => {
    const page = await stage.open();
    await stage.isRight(page, 'opened');
    stage.cable.cut();
    await stage.until('the page tries in vain', () => stage.cable.nTurnedAway > 0, page);
    await stage.change(N_MANY);
    stage.cable.mend();
    await stage.isRight(page, 'it had no id to resume from');
  });

  scenario('the network goes away without a word', async (stage) => {
    const page = await stage.settled();
    stage.cable.silence();
    await stage.change(5);
    await stage.until('the page notices by itself, and tries', () => stage.cable.nTurnedAway > 0, page);
    await stage.change(N_MANY);
    stage.cable.mend();
    await stage.isRight(page, 'the network was silent');
  });

  scenario('a laptop sleeps for longer than the history', async (stage) => {
    const page = await stage.settled();
    const nFetches = stage.nFetches(page);
    const { lastEventId } = await stage.look(page);
    const laptop = await fallAsleep(stage.browser.profile);
    stage.cable.cut();
    await stage.change(N_MANY);
    await stage.forgets(lastEventId);
    stage.cable.mend();
    laptop.wake();
    await stage.isRight(page, 'it slept');
    assert.ok(stage.nFetches(page) > nFetches, 'what it missed was forgotten, so it fetched');
  });

  scenario('a browser stands still, with its connections, for longer than the history', async (stage) => {
    const page = await stage.settled();
    const { lastEventId } = await stage.look(page);
    const laptop = await fallAsleep(stage.browser.profile);
    await stage.change(N_MANY);
    await stage.forgets(lastEventId);
    laptop.wake();
    await stage.isRight(page, 'it stood still');
  });
}

/** A site with a browser before it, whose network is a cable. */
export class Stage {
  #fetches = new Map();

  constructor(world, site) {
    this.world = world;
    this.site = site;
  }

  /** A new page of the one browser; the first call lays the cable. */
  async blank() {
    this.cable ??= await this.world.cable(this.site.gateway);
    this.browser ??= await this.world.browser();
    const page = await this.browser.newPage();
    this.#fetches.set(page, 0);
    page.on('request', (request) => {
      if (this.site.stateRequest.test(request.url())) this.#fetches.set(page, this.nFetches(page) + 1);
    });
    return page;
  }

  /** How often the page has asked the backend for the state. */
  nFetches(page) {
    return this.#fetches.get(page);
  }

  get url() {
    return `${this.site.scheme}://127.0.0.1:${this.cable.port}/`;
  }

  async open() {
    const page = await this.blank();
    await page.goto(this.url);
    return page;
  }

  /** A page that is open, is right, and has got events, so that it has an id to resume from. */
  async settled() {
    const page = await this.open();
    await this.isRight(page, 'opened');
    await this.change(3);
    await this.isRight(page, 'settled');
    return page;
  }

  async change(times) {
    for (let n = 0; n < times; n += 1) await this.site.change();
  }

  look(page) {
    return this.site.look(page);
  }

  until(text, holds, page) {
    return this.world.until(text, holds, page && { state: () => this.look(page) });
  }

  /** The page is live and its copy is what the database has; and after one more change, too. */
  async isRight(page, when) {
    await this.#isSame(page, when);
    await this.site.change();
    await this.#isSame(page, `${when}, one change later`);
  }

  async #isSame(page, when) {
    const isRight = async () => {
      const { cache, isLive } = await this.look(page);
      return isLive && JSON.stringify(cache) === JSON.stringify(await this.site.truth());
    };
    await this.world.until(`the page has what the database has (${when})`, isRight, {
      state: async () => ({ page: await this.look(page), database: await this.site.truth() }),
    });
    const { cache, shown } = await this.look(page);
    assert.deepEqual(shown, this.site.shownOf(cache), `what is seen is what is known (${when})`);
  }

  /**
   * Waits until the gateway has forgotten what a page saw last, because more came than the history
   * holds, and then all but the newest, because they are too old.
   */
  async forgets(lastEventId) {
    const seq = await this.site.newest();
    assert.ok(seq > Number(lastEventId) + 1);
    for (const id of [lastEventId, String(seq - 1)]) {
      await this.until(`the gateway has forgotten ${id}`, () => this.#isForgotten(id));
    }
  }

  /** Whether who asks with this id is told that it is not known any more. */
  async #isForgotten(lastEventId) {
    const url = `${this.site.gateway.url}/events?last_event_id=${encodeURIComponent(lastEventId)}`;
    const response = await fetch(url, {
      headers: { Accept: 'application/json' },
      signal: AbortSignal.timeout(10_000),
    });
    const { reset } = await response.json();
    return reset !== undefined;
  }

  /** Changes something again and again, also while the backend is away, until it is ended. */
  traffic() {
    const traffic = { nDone: 0, nFailed: 0 };
    let isOver = false;
    const running = (async () => {
      while (!isOver) {
        try {
          await this.site.change();
          traffic.nDone += 1;
        } catch {
          traffic.nFailed += 1; // nobody was there, or it died over it: the database knows
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    return Object.assign(traffic, {
      upTo: (times) => {
        const goal = traffic.nDone + times;
        return this.world.until(`${times} more changes are made`, () => traffic.nDone >= goal);
      },
      end: () => {
        isOver = true;
        return running;
      },
    });
  }

  /** Takes the backend's answers to the page's fetches, and keeps them until they are released. */
  async holdAnswers(page) {
    const gate = this.#gate();
    await page.route(this.site.stateRequest, async (route) => {
      const response = await route.fetch();
      await gate.pass();
      await route.fulfill({ response });
    });
    return gate;
  }

  /** Keeps the page's fetches, until they are released. */
  async holdRequests(page) {
    const gate = this.#gate();
    gate.nFailed = 0;
    page.on('response', (response) => {
      if (this.site.stateRequest.test(response.url()) && !response.ok()) gate.nFailed += 1;
    });
    await page.route(this.site.stateRequest, async (route) => {
      await gate.pass();
      await route.continue();
    });
    return gate;
  }

  #gate() {
    const waiting = [];
    let isShut = true;
    return {
      pass: () => isShut && new Promise((resolve) => waiting.push(resolve)),
      held: (text) => this.until(text, () => waiting.length > 0),
      release: () => {
        isShut = false;
        for (const resolve of waiting) resolve();
      },
    };
  }
}
