// The command line of gpu-report.mjs.
import { parseArgs } from 'node:util';

export const USAGE = `Usage: node scripts/gpu-report.mjs [options]

Checks and measures Switchyard on a GPU, and writes kernels/cuda/results/<card>.md. A step that fails is reported, and the next
ones still run. Exit code: 0; 1 where a step failed or a goal was missed; 2 where the GPU cannot be used, or for a wrong option.

  --model DIR      checkpoint to load; scripts/compare/make_checkpoint.py writes one of real shape (the demo model, whose
                   figures mean little)
  --device D       cuda or cuda:N (cuda)
  --dtype NAME     precision of the experts' kernels that are run, and of the session (bfloat16)
  --python PYTHON  Python that has torch with CUDA, and transformers: to compare the kernels and, with --model, decoding
  --peers DIR      folder in which node-llama-cpp is installed
  --gguf FILE      the weights of --model for llama.cpp; scripts/compare/to_gguf.py converts them
  --nvcc FILE      the compiler, where build-cuda.mjs would not find it
  --rounds N       times to measure each thing (5)
  --starts N       process starts of ours and of a peer's, each timed to the first token (3)
  --milliseconds N to spend on one measurement of a kernel (200)
  --new N          tokens to decode for a speed (64)
  --steps N        decode steps after which memory must not have grown (1000)
  --minutes N      most that a step may take (60)
  --skip A,B       steps to leave out: build, sanitizer, kernels, torch, goldens, session,
                   transformers, llamacpp
  --only A,B       the steps to run, instead
  --results FILE   keeps there what the steps find, and reads what earlier calls kept: a report can be made in several calls
  --out FILE.md    the report, instead of kernels/cuda/results/<card>.md
`;

/** Steps that can be left out, in the order they run. */
export const STEPS = [
  'build',
  'sanitizer',
  'kernels',
  'torch',
  'goldens',
  'session',
  'transformers',
  'llamacpp',
];

/**
 * @param args the arguments after the script's name
 * @returns undefined where help was asked for
 * @throws Error naming the option and what it takes
 */
export function parseOptions(args) {
  const text = (value) => ({ type: 'string', ...(value === undefined ? {} : { default: value }) });
  const { values } = parseArgs({
    args,
    options: {
      ...{ model: text(), python: text(), peers: text(), gguf: text(), nvcc: text() },
      ...{ out: text(), only: text(), results: text() },
      ...{ device: text('cuda'), dtype: text('bfloat16'), skip: text('') },
      ...{ rounds: text('5'), starts: text('3'), milliseconds: text('200') },
      ...{ new: text('64'), steps: text('1000'), minutes: text('60') },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  if (!/^cuda(:\d{1,4})?$/.test(values.device))
    throw new Error(`--device is ${values.device}; expected cuda or cuda:N`);
  if (!['float32', 'bfloat16', 'float16'].includes(values.dtype))
    throw new Error(`--dtype is ${values.dtype}; expected float32, bfloat16 or float16`);
  const skip = stepsOf('skip', values.skip);
  const only = stepsOf('only', values.only ?? STEPS.join(','));
  if ((values.gguf === undefined) !== (values.peers === undefined))
    throw new Error('--gguf and --peers go together: weights for llama.cpp, and where it is installed');
  if (values.gguf !== undefined && values.model === undefined)
    throw new Error('--gguf needs --model, the same weights for Switchyard');
  return {
    ...values,
    skip: STEPS.filter((name) => skip.includes(name) || !only.includes(name)),
    rounds: count('rounds', values.rounds),
    starts: count('starts', values.starts),
    milliseconds: count('milliseconds', values.milliseconds),
    newTokens: count('new', values.new),
    steps: count('steps', values.steps),
    minutes: count('minutes', values.minutes),
  };
}

function stepsOf(option, text) {
  const steps = text.split(',').filter(Boolean);
  const unknown = steps.filter((name) => !STEPS.includes(name));
  if (unknown.length === 0) return steps;
  throw new Error(`--${option} has no step ${unknown.join(', ')}; known are ${STEPS.join(', ')}`);
}

function count(name, text) {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new Error(`--${name} is ${text}; expected a whole number above zero`);
}
