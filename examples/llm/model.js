// A language model of two sentences: it says what it was asked, and then what it always says.

const ALWAYS =
  'A personal answer has one reader, so there is nothing to share and no history to keep: it goes ' +
  'through the gateway as it comes, token by token, and ends when its reader leaves.';

/** The tokens of the answer: words with the space before them. */
export function answerTo(prompt) {
  return `You ask: “${prompt.trim()}” ${ALWAYS}`.match(/\s*\S+/g);
}
