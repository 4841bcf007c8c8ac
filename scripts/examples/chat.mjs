// A conversation that remembers.
import { AutoModelForCausalLM, DEMO_MODEL } from 'moe-switchyard';

const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
const chat = await model.chat({ maxNewTokens: 24 });
for (const question of ['Speak of Moses.', 'And of David?']) {
  const { text } = await chat.send(question);
  console.log(`> ${question}\n${text}`);
}
console.log(`${chat.messages.length} messages`);
await model.dispose();
