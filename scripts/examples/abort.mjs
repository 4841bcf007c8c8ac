// Ends a generation early, by a signal, and keeps what was said until then.
import { AutoModelForCausalLM, AutoTokenizer, DEMO_MODEL, GenerationAbortError } from 'moe-switchyard';

const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
const tokenizer = await AutoTokenizer.fromPretrained(DEMO_MODEL);
const stop = new AbortController();
let tokens = 0;
const streamer = {
  put() {
    tokens += 1;
    if (tokens === 8) stop.abort();
  },
  end() {},
};
try {
  await model.generate({
    ...tokenizer('In the beginning'),
    maxNewTokens: 500,
    streamer,
    signal: stop.signal,
  });
} catch (error) {
  if (!(error instanceof GenerationAbortError)) throw error;
  console.log(`${error.message}: ${tokenizer.decode(error.partial.sequences[0])}`);
}
await model.dispose();
