// Kinds of projects that use the package. Each lets the demo model say the same words and prints them.
export const PROMPT = 'In the beginning';
export const TOKENS = 12;

const speak = (loading) => `${loading}
async function speak() {
  const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
  const tokenizer = await AutoTokenizer.fromPretrained(DEMO_MODEL);
  const { sequences } = await model.generate({ ...tokenizer('${PROMPT}'), maxNewTokens: ${TOKENS}, doSample: false });
  await model.dispose();
  console.log(tokenizer.decode(sequences[0] ?? []));
}
`;

const esm = speak(`import { AutoModelForCausalLM, AutoTokenizer, DEMO_MODEL } from 'moe-switchyard';`);
const commonJs = speak(
  `const { AutoModelForCausalLM, AutoTokenizer, DEMO_MODEL } = require('moe-switchyard');`,
);

const tsconfig = (module, moduleResolution) =>
  JSON.stringify({
    compilerOptions: {
      ...{ module, moduleResolution, target: 'ES2023', strict: true, skipLibCheck: true },
      ...{ types: ['node'], rootDir: '.', outDir: 'out' },
    },
  });

/** What the projects need besides. */
export const TOOLS = ['typescript@5.9', '@types/node@22', 'esbuild@0.28'];

/** Files, a command that prepares them, and what to start with Node. */
export const kinds = {
  'ES module': { files: { 'index.mjs': `${esm}await speak();` }, entry: 'index.mjs' },
  CommonJS: { files: { 'index.cjs': `${commonJs}void speak();` }, entry: 'index.cjs' },
  worker: {
    files: {
      'index.mjs': `import { Worker } from 'node:worker_threads';\nnew Worker(new URL('worker.mjs', import.meta.url));`,
      'worker.mjs': `${esm}await speak();`,
    },
    entry: 'index.mjs',
  },
  'TypeScript nodenext': {
    files: { 'index.mts': `${esm}await speak();`, 'tsconfig.json': tsconfig('nodenext', 'nodenext') },
    prepare: ['tsc', '-p', '.'],
    entry: 'out/index.mjs',
  },
  'TypeScript bundler': {
    files: { 'index.mts': `${esm}await speak();`, 'tsconfig.json': tsconfig('esnext', 'bundler') },
    prepare: ['tsc', '-p', '.'],
    entry: 'out/index.mjs',
  },
  'esbuild bundle': {
    files: { 'index.mjs': `${esm}await speak();` },
    prepare: [
      'esbuild',
      'index.mjs',
      '--bundle',
      '--platform=node',
      '--format=esm',
      '--external:moe-switchyard',
      '--outfile=out/index.mjs',
    ],
    entry: 'out/index.mjs',
  },
};
