// Requests for JSON, whose failures are errors that say why.

export function getJson(path, { signal } = {}) {
  return request(path, { signal });
}

export function sendJson(method, path, body) {
  return request(path, {
    method,
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
}

async function request(path, options) {
  const response = await fetch(path, options);
  const isJson = response.headers.get('Content-Type')?.includes('json');
  const answer = isJson ? await response.json() : null;
  if (!response.ok) throw new Error(answer?.error ?? `the server said ${response.status}`);
  return answer;
}
