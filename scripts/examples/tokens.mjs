// As in transformers: a tokenizer, a batch of prompts, sampling.
import { AutoModelForCausalLM, AutoTokenizer, DEMO_MODEL } from 'moe-switchyard';

const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
const tokenizer = await AutoTokenizer.fromPretrained(DEMO_MODEL);
const inputs = tokenizer(['In the beginning', 'And it came to pass'], { padding: true });
const { sequences, stats } = await model.generate({
  ...inputs,
  maxNewTokens: 16,
  ...{ doSample: true, temperature: 0.8, topP: 0.95, seed: 7 },
});
for (const row of sequences) console.log(tokenizer.decode(row, { skipSpecialTokens: true }));
console.log(`${stats.newTokens} new tokens`);
await model.dispose();
