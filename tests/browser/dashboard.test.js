// examples/dashboard, end to end: a database, Express, the gateway, React with TanStack Query, a chat.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';

import { DashboardSite } from './support/dashboard-site.js';
import { startPostgres } from './support/postgres.js';
import { Stage, claimAll } from './support/scenarios.js';
import { ROOT, claim } from './support/world.js';

const EXAMPLE = path.join(ROOT, 'examples/dashboard');

claimAll('the dashboard', (world) => DashboardSite.start(world));

claim('the dashboard: two pages chat through the gateway', async (world) => {
  const stage = await chatting(world);
  const [anna, ben] = stage.pages;
  await say(anna, 'Anna', 'Hello?');
  await stage.hasSaid(1);
  await say(ben, 'Ben', 'Here.');
  await say(anna, 'Anna', 'Good.');
  await stage.hasSaid(3);
  const late = await stage.open();
  await stage.isRight(late, 'who comes later reads it, too');
  for (const page of stage.pages) await stage.isRight(page, 'with the chat');
  assert.deepEqual((await stage.site.truth()).messages, [
    { author: 'Anna', text: 'Hello?' },
    { author: 'Ben', text: 'Here.' },
    { author: 'Anna', text: 'Good.' },
  ]);
});

for (const [what, breakIt] of [
  ['the backend is killed', ({ site }) => site.backend.kill()],
  ['the gateway is killed', ({ site }) => site.gateway.kill()],
  ['the gateway is stopped', ({ site }) => site.gateway.stop()],
]) {
  claim(`the dashboard: what is said while ${what} is said once, in the end`, async (world) => {
    const stage = await chatting(world);
    const [anna, ben] = stage.pages;
    await say(anna, 'Anna', 'Before');
    await stage.hasSaid(1);
    await breakIt(stage);
    const isOpen = (page) => page.getByTestId('chat-state').textContent().then((text) => text === 'Connected');
    await world.until('the chat notices', async () => !(await isOpen(anna)) && !(await isOpen(ben)));
    await say(anna, 'Anna', 'Meanwhile');
    await say(ben, 'Ben', 'Meanwhile, too');
    await world.until('both wait', async () => {
      return (await stage.look(anna)).nPending === 1 && (await stage.look(ben)).nPending === 1;
    });
    await stage.site[what.includes('backend') ? 'backend' : 'gateway'].start();
    await stage.hasSaid(3);
    for (const page of stage.pages) await stage.isRight(page, `${what} while they chatted`);
    const texts = (await stage.site.truth()).messages.map(({ text }) => text);
    assert.deepEqual(texts.sort(), ['Before', 'Meanwhile', 'Meanwhile, too']);
  });
}

claim('the dashboard: a network that is cut in the middle of a chat loses nothing of it', async (world) => {
  const stage = await chatting(world);
  const [anna] = stage.pages;
  stage.cable.cut();
  await world.until('the page tries in vain', () => stage.cable.nTurnedAway > 0);
  await say(anna, 'Anna', 'Can you hear me?');
  stage.cable.mend();
  await stage.hasSaid(1);
  for (const page of stage.pages) await stage.isRight(page, 'the network was cut');
});

claim('the dashboard over TLS, by HTTP/2: state, stream and chat', async (world) => {
  const stage = await chatting(world, { tls: await world.certificate() });
  const [anna, ben] = stage.pages;
  await stage.change(3);
  await say(anna, 'Anna', 'Is this encrypted?');
  await say(ben, 'Ben', 'It is.');
  await stage.hasSaid(2);
  for (const page of stage.pages) {
    await stage.isRight(page, 'over TLS');
    const protocols = await page.evaluate(() => performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol));
    assert.deepEqual(new Set(protocols.filter((name) => name !== '')), new Set(['h2']));
  }
  stage.cable.cut();
  await world.until('the pages try in vain', () => stage.cable.nTurnedAway > 0);
  await say(anna, 'Anna', 'And now?');
  stage.cable.mend();
  await stage.hasSaid(3);
  for (const page of stage.pages) await stage.isRight(page, 'over TLS, after a cut');
});

claim('the dashboard: however many pages there are, there is one upstream, and the page says so', async (world) => {
  const site = await DashboardSite.start(world, { admin: await world.freeAddress() });
  const stage = new Stage(world, site);
  const pages = [await stage.open(), await stage.open(), await stage.open()];
  const numbers = (page) =>
    page.evaluate(() => ['upstreams', 'clients'].map((id) => document.querySelector(`[data-testid="${id}"]`)?.textContent));
  for (const page of pages) {
    await world.until('it shows one upstream and three clients', async () => String(await numbers(page)) === '1,3', {
      state: () => numbers(page),
    });
  }
});

claim('the dashboard: what a page does itself is there once, and on the other page, too', async (world) => {
  const stage = new Stage(world, await DashboardSite.start(world));
  const [here, there] = [await stage.open(), await stage.open()];
  for (const page of [here, there]) await stage.isRight(page, 'opened');
  await here.getByLabel('Title').fill('Lunch is ready');
  await here.getByRole('button', { name: 'Send notification' }).click();
  await world.until('the other page has it', async () => (await there.getByText('Lunch is ready').count()) > 0);
  await there.getByRole('button', { name: 'Mark as read: Lunch is ready' }).click();
  await world.until('it is read in the database', async () => {
    return (await stage.site.truth()).notifications.some(({ title, read_at: at }) => title === 'Lunch is ready' && at);
  });
  for (const page of [here, there]) await stage.isRight(page, 'after a write of each');
});

claim('the dashboard: axe finds nothing, light and dark, wide and narrow', async (world) => {
  const stage = new Stage(world, await DashboardSite.start(world));
  const page = await stage.settled();
  await page.addScriptTag({ path: createRequire(import.meta.url).resolve('axe-core/axe.min.js') });
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1_400, 360]) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height: 900 });
      const { passes, violations } = await page.evaluate(() => window.axe.run());
      assert.ok(passes.length >= 20, `only ${passes.length} rules had something to look at`);
      const found = violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => ({ id, html, failureSummary })));
      assert.deepEqual(found, [], `${colorScheme}, ${width} wide`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0, `${width} wide, nothing sticks out`);
    }
  }
});

claim('the dashboard on PostgreSQL: a crash of the backend, and one of the gateway, lose nothing', async (world) => {
  const { url } = await startPostgres(world);
  const stage = new Stage(world, await DashboardSite.start(world, { url }));
  const page = await stage.settled();
  for (const server of [stage.site.backend, stage.site.gateway]) {
    await server.kill();
    await server.start();
    await stage.change(3);
    await stage.isRight(page, `${server.name} was killed`);
  }
});

claim('the dashboard on PostgreSQL: a crash of the database is told, and loses nothing', async (world) => {
  const { url, kill, start } = await startPostgres(world);
  const stage = new Stage(world, await DashboardSite.start(world, { url }));
  const page = await stage.settled();
  await kill();
  await page.getByLabel('Title').fill('Too early');
  await page.getByRole('button', { name: 'Send notification' }).click();
  const alert = page.getByRole('region', { name: 'Notifications' }).getByRole('alert');
  await world.until('the page says that it could not be saved', async () => (await alert.textContent()) !== '');
  await start();
  await world.until('the backend writes again', () => stage.change(1).then(() => true, () => false));
  await stage.change(3);
  await stage.isRight(page, 'the database was killed');
});

claim("the dashboard's own tests pass, on SQLite and on PostgreSQL", async (world) => {
  const { url } = await startPostgres(world);
  const report = await world
    .command(process.execPath, ['--test', '--test-reporter=spec'], {
      cwd: EXAMPLE,
      withinMs: 180_000,
      // What this runner tells its own files would make that one report to it.
      env: { POSTGRES_URL: url, NODE_TEST_CONTEXT: undefined },
    })
    .catch((error) => assert.fail(`${error.message}\n${error.stdout}`));
  assert.match(report, /^ℹ fail 0$/m, report);
  assert.match(report, /PostgreSQL/, 'it ran with PostgreSQL');
});

/** A stage with two pages that are there, and chat. */
async function chatting(world, options) {
  const stage = new Stage(world, await DashboardSite.start(world, options));
  stage.pages = [await stage.open(), await stage.open()];
  for (const page of stage.pages) await stage.isRight(page, 'opened');
  stage.hasSaid = async (nMessages) => {
    for (const page of stage.pages) {
      await stage.until(
        `${nMessages} messages are read, and none waits`,
        async () => {
          const { cache, nPending } = await stage.look(page);
          return cache.messages.length === nMessages && nPending === 0;
        },
        page,
      );
    }
  };
  return stage;
}

async function say(page, name, text) {
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.getByRole('button', { name: 'Send', exact: true }).click();
}
