// The last prices as a line; and where the day began as a dashed one, where that is in sight. For the eye
// only: the numbers are beside it.

const WIDTH = 120;
const HEIGHT = 28;
const EDGE = 3;

export function Sparkline({ values, open }) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const y = (value) => HEIGHT - EDGE - ((value - low) / (high - low || 1)) * (HEIGHT - 2 * EDGE);
  const x = (i) => EDGE + (i / Math.max(1, values.length - 1)) * (WIDTH - 2 * EDGE);
  const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
  const last = values.at(-1) ?? open;
  return (
    <svg
      className={`sparkline ${last < open ? 'down' : 'up'}`}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      {low <= open && open <= high && <line x1={0} x2={WIDTH} y1={y(open)} y2={y(open)} />}
      <polyline points={points.join(' ')} />
    </svg>
  );
}
