import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';

import { getJson } from '../api.js';
import { useEventStream } from '../live/useEventStream.js';
import { changes, cutNetwork, mendNetwork } from '../network.js';
import { Picture } from './Picture.jsx';

/** How often the gateway is asked for its numbers. They are nobody's truth, so polling is good enough. */
const ASK_MS = 2_000;

/** In one word, in the header. Also for screen readers, who hear it when it changes. */
export function ConnectionState() {
  const { text, mood } = describe(useEventStream(changes));
  return (
    <p className={`state dot ${mood}`} role="status" data-testid="connection-state">
      {text}
    </p>
  );
}

export function Connection() {
  const status = useEventStream(changes);
  const { data: numbers, isPending } = useQuery({
    queryKey: ['gateway'],
    queryFn: ({ signal }) => getJson('/api/gateway', { signal }),
    refetchInterval: ASK_MS,
    retry: false,
  });
  const { mood } = describe(status);
  const isCut = status.state === 'cut';
  const isKnown = numbers?.gateway != null;

  return (
    <section className="panel connection" aria-labelledby="connection-title">
      <div className="story">
        <h2 id="connection-title">Connection</h2>
        <p className="claim">
          <strong data-testid="upstreams">{isKnown ? numbers.streams : '–'}</strong>{' '}
          {isKnown && numbers.streams !== 1 ? 'upstreams' : 'upstream'},{' '}
          <strong data-testid="clients">
            {isKnown ? number.format(numbers.gateway.clients) : '–'}
          </strong>{' '}
          {numbers?.gateway?.clients === 1 ? 'client' : 'clients'}
        </p>
        <p className="quiet">
          {isKnown || isPending
            ? 'The backend sends each event once. The gateway gives it to everybody.'
            : 'The gateway’s numbers can’t be had right now.'}
        </p>
      </div>
      <Picture
        nClients={numbers?.gateway?.clients ?? 0}
        nEvents={status.nEvents}
        mood={mood}
        upstream={status.upstream}
      />
      <div className="facts">
        <dl>
          <Fact label="Last event ID" testId="last-event-id" value={status.lastEventId || '–'} />
          <Fact label="Events received" testId="events" value={number.format(status.nEvents)} />
          <Fact
            label="Kept for replay"
            testId="kept"
            value={isKnown ? number.format(numbers.gateway.kept) : '–'}
          />
          <Fact
            label="State fetched anew"
            testId="refetches"
            value={`${number.format(status.nLosses)} ×`}
          />
        </dl>
        <Cut isCut={isCut} status={status} />
      </div>
    </section>
  );
}

function Fact({ label, testId, value }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd data-testid={testId}>{value}</dd>
    </div>
  );
}

/** The switch, and what happened when it was used last. */
function Cut({ isCut }) {
  const report = useReport();
  return (
    <div className="cut">
      <button type="button" onClick={isCut ? mendNetwork : cutNetwork}>
        {isCut ? 'Mend the network' : 'Cut the network'}
      </button>
      <p className="quiet" role="status" data-testid="replayed">
        {report}
      </p>
    </div>
  );
}

/** Replayed events come in one go. After so much silence, that was all. */
const SILENCE_MS = 100;

function useReport() {
  const [report, setReport] = useState('See what happens when this page is away for a while.');
  useEffect(() => {
    let before = null; // what was when the network was cut
    let isBack = false;
    let timer;
    const stop = changes.watch(() => {
      const { state, nEvents, nLosses, lastEventId } = changes.status;
      if (state === 'cut' && !before) {
        before = { at: Date.now(), nEvents, nLosses };
        isBack = false;
        setReport(
          `Cut after event ${lastEventId || '–'}. Prices stand still, what you send waits.`,
        );
      } else if (before && state === 'live') {
        before.ms ??= Date.now() - before.at;
        isBack = true;
      }
      if (!isBack) return;
      clearTimeout(timer);
      timer = setTimeout(() => {
        const away = `Away for ${(before.ms / 1000).toFixed(1)} s: `;
        const n = changes.status.nEvents - before.nEvents;
        setReport(
          changes.status.nLosses > before.nLosses
            ? `${away}more than the gateway keeps, so the state was fetched anew.`
            : `${away}${n} missed ${n === 1 ? 'event' : 'events'} replayed, nothing lost.`,
        );
        before = null;
        isBack = false;
      }, SILENCE_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, []);
  return report;
}

function describe({ state, upstream }) {
  if (state === 'live') {
    if (upstream === 'down') return { text: 'Backend is down', mood: 'bad' };
    return { text: 'Live', mood: 'good' };
  }
  return {
    closed: { text: 'Connecting…', mood: 'fair' },
    connecting: { text: 'Connecting…', mood: 'fair' },
    reconnecting: { text: 'Reconnecting…', mood: 'fair' },
    cut: { text: 'Network cut', mood: 'bad' },
  }[state];
}

const number = new Intl.NumberFormat('en');
