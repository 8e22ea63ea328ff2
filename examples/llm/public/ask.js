// Asks a model and gives its answer piece by piece, while it comes. Runs in pages and in Node.
//
//   for await (const text of ask('/v1/chat/completions', [{ role: 'user', content: 'Why?' }], { signal }))
//     output.textContent += text;
//
// An `EventSource` can't do this: it can only GET, and it would ask again when the answer is over.

/**
 * Asks, and yields the pieces of text. Throws if the answer is refused, or breaks off: then what came
 * is not the whole answer, and only a person should ask again, because asking costs. Leaving the loop
 * or aborting the signal closes the connection, and the model stops.
 */
export async function* ask(url, messages, { signal, model = 'parrot', onComment } = {}) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream' },
    body: JSON.stringify({ model, messages, stream: true }),
    signal,
  });
  if (!response.ok) throw new Error(`the model's server answered ${response.status}: ${await response.text()}`);
  for await (const { data } of events(response.body, onComment)) {
    if (data === '[DONE]') return;
    const text = JSON.parse(data).choices[0].delta.content;
    if (text) yield text;
  }
  throw new Error('the answer broke off');
}

/** The events of a stream of bytes. Comments (a gateway's heartbeats) only say that it lives. */
async function* events(body, onComment) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return; // an event without its blank line is none
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (data.length > 0) yield { data: data.join('\n') };
          data = [];
        } else if (line.startsWith(':')) {
          onComment?.(line.slice(1));
        } else {
          const [, field, text] = /^([^:]*):? ?(.*)$/.exec(line);
          if (field === 'data') data.push(text);
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // who leaves early closes the connection
  }
}
