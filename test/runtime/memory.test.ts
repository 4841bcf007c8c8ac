import { execFile, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { EngineError } from '../../src/errors.ts';
import { allocate } from '../../src/runtime/memory.ts';
import { nativeError } from '../../src/runtime/native-error.ts';
import { compileSources } from '../helpers/compile-sources.ts';
import { LONG_WIDTH, longGraph } from './long-graph.ts';
import { temporaryFolder, writeTensors } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

describe('allocate', () => {
  it('gives zeros', () => {
    expect(allocate(Float32Array, 3, 'a few', 'Ask for less')).toEqual(new Float32Array(3));
  });

  it.each([2 ** 42, 2 ** 60])('says what %d elements were for, their bytes and what to do', (length) => {
    const refused = () => allocate(Float32Array, length, 'logits of 3 positions', 'Ask for less');
    expect(refused).toThrow(EngineError);
    expect(refused).toThrow(
      /^there is no memory for logits of 3 positions: [\d.]+ TB in one piece\. Ask for less$/,
    );
  });
});

describe('what native code says of exhausted memory', () => {
  it.each<[string, RegExp]>([
    ['std::bad_alloc', /^the engine found no memory\. Shorten/],
    ['cannot allocate 5000000 bytes', /^the engine found no memory: 5\.0 MB more were asked for\. Shorten/],
    ['Failed to allocate memory for requested buffer of size 2000000000', /no memory: 2\.0 GB more/],
  ])('%s becomes an error with a remedy', (message, expected) => {
    const error = nativeError(new Error(message));
    expect(error).toBeInstanceOf(EngineError);
    expect(error.message).toMatch(expected);
  });

  it('other failures keep their words', () => {
    expect(nativeError(new Error('the graph is odd')).message).toBe('the graph is odd');
  });
});

const canLimit = spawnSync('prlimit', ['--version']).status === 0;

it.skipIf(!canLimit)(
  'a run without room for its results fails, and the next one works (needs prlimit)',
  async () => {
    const compiled = await compileSources('runtime');
    try {
      const values = new Float32Array(LONG_WIDTH ** 2);
      const file = join(folder, 'weights.bin');
      const tensors = writeTensors(file, [{ name: 'big', shape: [LONG_WIDTH, LONG_WIDTH], values }]);
      writeFileSync(join(folder, 'model.onnx'), longGraph(0, 2));
      const module = (name: string) =>
        JSON.stringify(pathToFileURL(join(compiled.folder, 'runtime', name)).href);
      const script = `
      import { execFileSync } from 'node:child_process';
      import { readFileSync } from 'node:fs';
      const { openWeightStore } = await import(${module('weight-store.js')});
      const { openSession } = await import(${module('session.js')});
      const { Tensor } = await import(${module('ort.js')});
      const store = openWeightStore(${JSON.stringify(tensors)});
      const session = await openSession(readFileSync(${JSON.stringify(join(folder, 'model.onnx'))}), { store, threads: 1 });
      const input = (n) => new Tensor('float32', new Float32Array(n * ${LONG_WIDTH}), [n, ${LONG_WIDTH}]);
      const run = (x) => session.run({ x }, { y: null }).then(({ y }) => y.dims[0], ({ name, message }) => name + ': ' + message);
      const large = input(2 ** 18);
      const used = Number(/^VmSize:\\s*(\\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
      execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + (used + 2 ** 28)]);
      console.log(JSON.stringify([await run(large), await run(input(2))]));`;
      const { stdout } = await promisify(execFile)(process.execPath, [
        '--input-type=module',
        '--eval',
        script,
      ]);
      const [refused, answered] = JSON.parse(stdout);
      expect(refused).toMatch(
        /^EngineError: the engine found no memory: 537 MB more were asked for\. Shorten/,
      );
      expect(answered).toBe(2);
    } finally {
      await compiled.remove();
    }
  },
);
