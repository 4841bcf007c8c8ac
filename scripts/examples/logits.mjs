// One pass: what the model expects next.
import { AutoModelForCausalLM, AutoTokenizer, DEMO_MODEL } from 'moe-switchyard';

const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
const tokenizer = await AutoTokenizer.fromPretrained(DEMO_MODEL);
const { logits } = await model.forward(tokenizer('In the beginning God created the'));
const vocabulary = logits.dims.at(-1);
const last = [...logits.data.slice(-vocabulary)];
const best = last.map((logit, id) => ({ logit, id })).sort((a, b) => b.logit - a.logit);
for (const { logit, id } of best.slice(0, 5))
  console.log(logit.toFixed(2), JSON.stringify(tokenizer.decode([id])));
await model.dispose();
