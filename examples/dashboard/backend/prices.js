// Prices: what they are, and how they change.

import { currentVersion, next, record } from './changes.js';

/** How many past prices a page gets, to draw them. */
const RECENT = 40;

/** The market when it opens for the first time: symbol, name, price in cents. */
const COMPANIES = [
  ['BRCH', 'Birch & Barrow', 8_450],
  ['CNDR', 'Cinder Forge', 23_180],
  ['DUNE', 'Dune Optics', 5_725],
  ['FJRD', 'Fjord Shipping', 14_210],
  ['HALO', 'Halo Lighting', 3_390],
  ['KITE', 'Kite Aviation', 31_640],
  ['LARK', 'Lark Audio', 1_985],
  ['MOSS', 'Moss Foods', 6_870],
  ['PIKE', 'Pike Hydraulics', 11_505],
  ['TERN', 'Tern Logistics', 9_260],
];

/** All prices, and the version at which they were so. */
export function readPrices(database) {
  return database.read(async (query) => {
    const version = await currentVersion(query);
    const prices = await query(
      'SELECT symbol, name, price, open, version FROM prices ORDER BY symbol',
    );
    const past = await query(
      `SELECT about, data FROM (
        SELECT about, data, version, ROW_NUMBER() OVER (PARTITION BY about ORDER BY version DESC) AS age
        FROM changes WHERE type = 'price'
      ) AS numbered WHERE age <= ${RECENT} ORDER BY version`,
    );
    const recent = Object.fromEntries(prices.map(({ symbol }) => [symbol, []]));
    for (const { about, data } of past) recent[about]?.push(JSON.parse(data).price);
    return { version, prices: prices.map((price) => ({ ...price, recent: recent[price.symbol] })) };
  });
}

export function setPrice(database, symbol, price) {
  return database.write(async (query) => {
    const version = await next(query, 'changes');
    const [row] = await query(
      'UPDATE prices SET price = $1, version = $2 WHERE symbol = $3 RETURNING symbol, name, price, open, version',
      [price, version, symbol],
    );
    await record(query, { version, type: 'price', about: symbol, data: row });
    return row;
  });
}

/** Lists the companies, if nobody has yet, with a morning's worth of prices behind them. */
export function openMarket(database) {
  return database.write(async (query) => {
    const [{ n }] = await query('SELECT COUNT(*) AS n FROM prices');
    if (n > 0) return;
    for (const [symbol, name, open] of COMPANIES) {
      await query(
        'INSERT INTO prices (symbol, name, price, open, version) VALUES ($1, $2, $3, $4, 0)',
        [symbol, name, open, open],
      );
      let price = open;
      for (let i = 0; i < RECENT; i += 1) {
        const version = await next(query, 'changes');
        price = moved(price, open);
        await query('UPDATE prices SET price = $1, version = $2 WHERE symbol = $3', [
          price,
          version,
          symbol,
        ]);
        await record(query, {
          version,
          type: 'price',
          about: symbol,
          data: { version, symbol, name, price, open },
        });
      }
    }
  });
}

/** Changes a price every so often, until the function that it gives is called. */
export function runMarket(database, intervalMs) {
  let timer;
  let isFailing = false;
  async function trade() {
    try {
      const { prices } = await readPrices(database);
      const { symbol, price, open } = prices[Math.floor(Math.random() * prices.length)];
      await setPrice(database, symbol, moved(price, open));
      isFailing = false;
    } catch (error) {
      if (!isFailing) console.error(`market: ${error.message}`);
      isFailing = true;
    }
    timer = setTimeout(trade, intervalMs * (0.5 + Math.random()));
  }
  if (intervalMs > 0) timer = setTimeout(trade, intervalMs);
  return () => clearTimeout(timer);
}

/** A price a little later: up or down by up to 0.6 %, and never far from where it began. */
function moved(price, open) {
  const chance = (Math.random() - 0.5) * 0.012;
  const pull = (open / price - 1) * 0.02;
  return Math.round(price * (1 + chance + pull));
}
