// The one way in which these tests wait: for a level, until a deadline, with a claim to print.

/** The deadline of a wait that names none: generous, since it is only ever reached by a failure. */
const DEADLINE_MS = 30_000;

/** The time between two looks at a level. */
const LOOK_MS = 10;

/**
 * Waits until `holds` gives something truthy, and gives that.
 *
 * `holds` looks at a level (a count, a state) and not at an edge (a call that may already have
 * happened), so nothing is lost by looking late. `state` is printed when the deadline is reached;
 * `guard` may throw to end the wait early, because what is waited for cannot come any more.
 */
export async function until(claim, holds, { withinMs = DEADLINE_MS, state, guard } = {}) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const value = await holds();
    if (value) return value;
    guard?.(claim);
    if (Date.now() > deadline) {
      const now = state ? `; instead: ${brief(JSON.stringify(await state()))}` : '';
      throw new Error(`not within ${withinMs / 1000} s: ${claim}${now}`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** The two ends of a long text, which tell most. */
function brief(text) {
  return text.length > 2_000 ? `${text.slice(0, 1_000)} … ${text.slice(-1_000)}` : text;
}
