// One line from the backend to the gateway, and one from there to each client. The numbers beside it say
// the same; so to screen readers it is one sentence.

import { memo, useEffect, useRef } from 'react';

const WIDTH = 520;
const HEIGHT = 140;
const MIDDLE = HEIGHT / 2;

/** Where clients are drawn, and how many of them at most. */
const CROWD = { left: 322, width: 190, most: 400 };

export function Picture({ nClients, nEvents, mood, upstream }) {
  const pulse = useRef(null);
  useEffect(() => {
    if (nEvents === 0 || matchMedia('(prefers-reduced-motion: reduce)').matches) return;
    const steps = [
      { opacity: 1, transform: 'none' },
      { opacity: 1, transform: 'translateX(96px)' },
    ];
    pulse.current.animate(steps, { duration: 260, easing: 'ease-in' });
  }, [nEvents]);

  return (
    <svg
      className={`picture ${mood}`}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-label={`One line from the backend to the gateway, and one from there to each of ${nClients} clients`}
    >
      <line
        className={upstream === 'down' ? 'wire broken' : 'wire'}
        x1="98"
        x2="194"
        y1={MIDDLE}
        y2={MIDDLE}
      />
      <circle className="pulse" ref={pulse} cx="98" cy={MIDDLE} r="4.5" />
      <Crowd nClients={nClients} />
      <Box x={6} label="Backend" />
      <Box x={194} label="ssecast" isGateway />
    </svg>
  );
}

function Box({ x, label, isGateway = false }) {
  return (
    <g className={isGateway ? 'box gateway' : 'box'}>
      <rect x={x} y={MIDDLE - 23} width="92" height="46" rx="10" />
      <text x={x + 46} y={MIDDLE + 5}>
        {label}
      </text>
    </g>
  );
}

const Crowd = memo(function Crowd({ nClients }) {
  const n = Math.min(nClients, CROWD.most);
  const step = Math.min(30, 0.95 * Math.sqrt((CROWD.width * (HEIGHT - 10)) / Math.max(n, 1)));
  const nRows = Math.max(1, Math.min(n, Math.floor((HEIGHT - 10) / step)));
  const dots = [];
  const branches = [];
  for (let i = 0; i < n; i += 1) {
    const column = Math.floor(i / nRows);
    const x = CROWD.left + (column + 0.5) * step;
    const y = MIDDLE + ((i % nRows) - (Math.min(n, nRows) - 1) / 2) * step;
    dots.push(
      <circle
        key={i}
        className={i === 0 ? 'you' : undefined}
        cx={x}
        cy={y}
        r={Math.min(7, step * 0.3)}
      />,
    );
    if (column === 0) {
      branches.push(
        `M286 ${MIDDLE}C${CROWD.left - 12} ${MIDDLE} ${CROWD.left - 30} ${y} ${x - step * 0.3} ${y}`,
      );
    }
  }
  return (
    <g className="crowd">
      <path d={branches.join('')} />
      {dots}
    </g>
  );
});
