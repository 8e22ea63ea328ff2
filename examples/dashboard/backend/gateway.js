// What the gateway says of itself, for the page's connection panel. The gateway's admin listener has no
// access control and tells much, so it is not for browsers: the backend asks it, and passes on a few
// numbers. However many pages ask, the gateway is asked once a second.

const FRESH_MS = 1_000;
const PATIENCE_MS = 1_000;

export function askGateway(adminUrl, channelName) {
  let asked = 0;
  let answer = null;
  return () => {
    if (Date.now() - asked > FRESH_MS) {
      asked = Date.now();
      answer = ask(adminUrl, channelName).catch(() => null); // there is none, or it is away
    }
    return answer;
  };
}

async function ask(adminUrl, channelName) {
  const response = await fetch(new URL('/status', adminUrl), {
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const status = await response.json();
  const channel = status.channels.find(({ name }) => name === channelName);
  if (!channel) return null;
  return {
    version: status.version,
    clients: channel.clients,
    events: channel.events,
    kept: channel.log.events,
    upstream: channel.upstream.state,
  };
}
