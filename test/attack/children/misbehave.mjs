// Generates several times at once with callbacks that throw, lie, change what they are given, abort, dispose or never answer, and says
// in JSON what did not hold: every call settles, lengths are the library's, and a call without such callbacks is not touched.
// argv: URL of the library, folder of a model, seed.
import { setTimeout as sleep } from 'node:timers/promises';

const [, , library, folder, seed] = process.argv;
const { AutoModelForCausalLM, SwitchyardError } = await import(library);

let state = Number(seed) >>> 0;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
const pick = (items) => items[Math.floor(random() * items.length)];
const own = new Error('of the callback');

const faults = [];
const model = await AutoModelForCausalLM.fromPretrained(folder, { threads: 2 });
const PROMPT = [5, 6, 7, 8];
const LENGTH = 6;
const calm = { inputIds: [PROMPT], maxNewTokens: LENGTH, doSample: false, stopStrings: undefined };
const right = `${(await model.generate(calm)).sequences[0]}`;

/** What a callback does with the ids that it is given. */
const DEEDS = [
  () => {},
  (ids = []) => {
    ids.length = 0;
  },
  (ids = []) => {
    for (let n = 0; n < 100; n++) ids.push(1);
  },
  (ids = []) => {
    ids[0] = Number.NaN;
  },
  () => {
    throw own;
  },
  () => {
    throw undefined;
  },
  () => Promise.reject(own),
  () => new Promise((resolve) => setTimeout(resolve, 1)),
  () => Object.create({ length: -1 }),
  () => 'yes',
  () => Number.NaN,
];
const SCORES = [
  (_, scores) => {
    scores.fill(Number.NaN);
  },
  (_, scores) => {
    scores.fill(Number.NEGATIVE_INFINITY);
  },
  (_, scores) => {
    scores.fill(Number.POSITIVE_INFINITY);
  },
  (_, scores) => {
    scores[0] = 1e308;
  },
  () => {
    throw own;
  },
];

function options(controller) {
  const made = { ...calm, inputIds: [[...PROMPT]], signal: controller.signal };
  if (random() < 0.5) {
    const never = random() < 0.1;
    made.streamer = { put: never ? () => new Promise(() => {}) : pick(DEEDS), end: pick(DEEDS) };
    if (random() < 0.3) made.streamer.fail = pick(DEEDS);
    if (never) setTimeout(() => controller.abort(own), 20);
  }
  if (random() < 0.5) made.stoppingCriteria = [pick(DEEDS)];
  if (random() < 0.5) made.logitsProcessors = [pick(random() < 0.5 ? DEEDS : SCORES)];
  if (random() < 0.2) made.prefixAllowedTokensFn = pick(DEEDS);
  if (random() < 0.3) setTimeout(() => controller.abort(pick([own, 'text', undefined])), 20 * random());
  return made;
}

async function provoke() {
  const made = options(new AbortController());
  try {
    const { sequences } = await model.generate(made);
    const [row] = sequences;
    const length = row.length - PROMPT.length;
    if (`${row.slice(0, PROMPT.length)}` !== `${PROMPT}`) faults.push(`the prompt became ${row}`);
    if (length < 0 || length > LENGTH) faults.push(`${length} new tokens instead of at most ${LENGTH}`);
    if (!row.every(Number.isInteger)) faults.push(`ids are ${row}`);
  } catch (error) {
    // What a callback throws comes out as it is; everything else is the library's own word.
    if (error !== own && error !== undefined && !(error instanceof SwitchyardError))
      faults.push(`raw ${error?.name}: ${error?.message ?? error}`);
  }
}

/** Beside the others, and as if they were not there. */
async function beside() {
  const { sequences } = await model.generate(calm);
  if (`${sequences[0]}` !== right) faults.push(`the calm call gave ${sequences[0]} instead of ${right}`);
}

for (let round = 0; round < 10; round++) {
  const calls = [provoke(), provoke(), beside(), provoke()];
  const unsettled = Symbol();
  const settled = await Promise.race([Promise.all(calls), sleep(120_000, unsettled, { ref: false })]);
  if (settled === unsettled) faults.push('a call did not settle');
}
const last = random() < 0.5 ? model.generate(calm).catch((error) => error) : undefined;
await model.dispose();
const end = await last;
if (end instanceof Error && !(end instanceof SwitchyardError)) faults.push(`raw ${end.name}: ${end.message}`);
console.log(JSON.stringify(faults));
process.exit(0);
