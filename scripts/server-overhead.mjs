// What the server adds to a call of generate: one request at a time, in turn with calls in the same process, by the fastest of each, since
// other work on the machine only ever slows down. The client shares the process, so its time counts as the server's.
// node scripts/server-overhead.mjs [--model demo] [--tokens 200] [--rounds 40]
import { Agent, request } from 'node:http';
import { parseArgs } from 'node:util';
import { AutoModelForCausalLM } from '../dist/index.js';
import { createServer, listen } from '../dist/server/index.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'demo' },
    tokens: { type: 'string', default: '200' },
    rounds: { type: 'string', default: '40' },
  },
});
const tokens = Number(values.tokens);
const messages = [{ role: 'user', content: 'Tell me a long story about the sea.' }];

const model = await AutoModelForCausalLM.fromPretrained(values.model);
const { eosTokenId = model.config.eos_token_id } = model.generationConfig;
// So that no answer ends early.
const logitBias = Object.fromEntries([eosTokenId].flat().map((id) => [id, -100]));
const listening = await listen(createServer(model), { port: 0 });
const agent = new Agent({ keepAlive: true });

/** Milliseconds to the first token and to the end. */
async function direct() {
  const started = performance.now();
  let puts = 0;
  let first = 0;
  const streamer = {
    put() {
      if (++puts === 2) first = performance.now() - started;
    },
    end() {},
  };
  await model.generate({ messages, maxNewTokens: tokens, doSample: false, logitBias, streamer });
  return { first, whole: performance.now() - started };
}

/** Milliseconds to the first byte, the first text and the end. */
function served(stream) {
  const body = { messages, max_tokens: tokens, temperature: 0, logit_bias: logitBias, stream };
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const since = () => performance.now() - started;
    let byte;
    let first;
    const headers = { 'content-type': 'application/json' };
    const url = `${listening.url}/v1/chat/completions`;
    request(url, { method: 'POST', agent, headers }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`the server answered ${response.statusCode}`));
      response.on('data', (piece) => {
        byte ??= since();
        if (/"content":"[^"]/.test(String(piece))) first ??= since();
      });
      response.on('end', () => resolve({ byte, first, whole: since() }));
    })
      .on('error', reject)
      .end(JSON.stringify(body));
  });
}

const runs = { direct: [], whole: [], streamed: [] };
for (let round = 0; round < Number(values.rounds); round++) {
  runs.direct.push(await direct());
  runs.whole.push(await served(false));
  runs.streamed.push(await served(true));
}
agent.destroy();
await listening.close();
await model.dispose();

const best = (list, of) => Math.min(...list.map(of));
const [plain, whole, streamed] = Object.values(runs).map((list) => best(list, (one) => one.whole));
const firstText = best(runs.streamed, ({ first }) => first) - best(runs.direct, ({ first }) => first);
console.log(`generate                 ${plain.toFixed(1)} ms for ${tokens} tokens`);
console.log(
  `an answer in one piece   ${whole.toFixed(1)} ms, ${(100 * (whole / plain - 1)).toFixed(1)}% more`,
);
console.log(
  `an answer as it comes    ${streamed.toFixed(1)} ms, ${((1000 * (streamed - plain)) / tokens).toFixed(0)} µs a token more`,
);
console.log(`first byte of a stream   ${best(runs.streamed, ({ byte }) => byte).toFixed(1)} ms`);
console.log(`first text               ${firstText.toFixed(1)} ms after that of generate`);
