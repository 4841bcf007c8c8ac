// Continues a prompt, and prints the text as it comes.
import { AutoModelForCausalLM, DEMO_MODEL } from 'moe-switchyard';

const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
for await (const text of model.stream({ prompt: 'In the beginning', maxNewTokens: 24 }))
  process.stdout.write(text);
console.log();
await model.dispose();
