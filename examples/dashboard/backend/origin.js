// Pages of other sites can make a browser send requests here, and open WebSockets, for which browsers
// ask no permission. The gateway passes `Host` on as the browser wrote it, so the two can be compared.

/** Whether no browser, or one that shows a page of ours, has sent this. */
export function isFromOurPages({ headers: { host, origin } }) {
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}
