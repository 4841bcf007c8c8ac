// Changes the experts' backend while the model is loaded: nothing is read again, and the words stay the same.
import { AutoModelForCausalLM, DEMO_MODEL, ExpertsInterface } from 'moe-switchyard';

const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
for (const name of ExpertsInterface.names()) {
  model.setExpertsImplementation(name);
  const words = [];
  for await (const text of model.stream({ prompt: 'In the beginning', maxNewTokens: 12, doSample: false }))
    words.push(text);
  console.log(`${name}: ${words.join('')}`);
}
await model.dispose();
