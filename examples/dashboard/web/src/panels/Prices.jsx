import { memo, useRef } from 'react';

import { getJson } from '../api.js';
import { useLiveQuery } from '../live/useLiveQuery.js';
import { changes } from '../network.js';
import { applyPrice } from '../prices.js';
import { Sparkline } from './Sparkline.jsx';

export function Prices() {
  const { data, failureCount } = useLiveQuery({
    stream: changes,
    queryKey: ['prices'],
    queryFn: ({ signal }) => getJson('/api/prices', { signal }),
    on: { price: applyPrice },
  });

  return (
    <section className="panel prices" aria-labelledby="prices-title">
      <div className="head">
        <h2 id="prices-title">Prices</h2>
        {!data && (
          <p className="quiet">
            {failureCount > 0 ? 'The prices can’t be had. Trying again…' : 'Loading…'}
          </p>
        )}
      </div>
      <div className="scroll" tabIndex={0} role="group" aria-labelledby="prices-title">
        <table>
          <thead>
            <tr>
              <th scope="col">Company</th>
              <th scope="col" className="trend">
                Trend
              </th>
              <th scope="col" className="number">
                Price
              </th>
              <th scope="col" className="number">
                Today
              </th>
            </tr>
          </thead>
          <tbody>
            {data?.prices.map((price) => <Price key={price.symbol} {...price} />) ??
              Array.from({ length: 10 }, (_, i) => <Placeholder key={i} />)}
          </tbody>
        </table>
      </div>
    </section>
  );
}

const Price = memo(function Price({ symbol, name, price, open, recent, version }) {
  const first = useRef(version).current;
  const before = recent.at(-2) ?? price;
  const flash = version === first || price === before ? '' : price > before ? 'rose' : 'fell';
  const change = ((price - open) / open) * 100;
  return (
    <tr data-testid={`price-${symbol}`} data-price={price} data-version={version}>
      <th scope="row">
        <b>{symbol}</b>
        <span>{name}</span>
      </th>
      <td className="trend">
        <Sparkline values={recent} open={open} />
      </td>
      <td className="number">
        {/* A new key is a new element: so the animation begins again. */}
        <span key={version} className={`flash ${flash}`}>
          {money.format(price / 100)}
        </span>
      </td>
      <td className={`number ${change < 0 ? 'down' : 'up'}`}>
        <span aria-hidden="true">{change < 0 ? '▼' : '▲'}</span> {percent.format(change)} %
      </td>
    </tr>
  );
});

/** As high as a row, so that nothing moves when the prices come. */
function Placeholder() {
  return (
    <tr className="placeholder" aria-hidden="true">
      <th>
        <b>&nbsp;</b>
        <span>&nbsp;</span>
      </th>
      <td className="trend" />
      <td />
      <td />
    </tr>
  );
}

const money = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat('en', {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
  signDisplay: 'always',
});
