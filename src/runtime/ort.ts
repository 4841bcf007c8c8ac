/**
 * The only place that knows onnxruntime-node: its `Tensor`, and the folder of its native files. The package itself is never loaded, as
 * that would open a second native addon in every thread. `Tensor` comes from the onnxruntime-common that belongs to it, with `require`,
 * because that is a class of its own for `import`, and onnxruntime-node uses the one for `require`.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type * as Ort from 'onnxruntime-node';
import { EngineError } from '../errors.ts';

const require = createRequire(import.meta.url);

type Used = Pick<typeof Ort, 'Tensor'>;

function load(): { ort: Used; fault: EngineError | undefined } {
  try {
    const nextToIt = createRequire(require.resolve('onnxruntime-node/package.json'));
    return { ort: nextToIt('onnxruntime-common') as Used, fault: undefined };
  } catch (cause) {
    const fault = new EngineError(
      `onnxruntime-node cannot be loaded: ${(cause as Error).message.split('\n')[0]}. Install it again with: npm install onnxruntime-node`,
      { cause },
    );
    return { ort: withoutEngine(fault), fault };
  }
}

/** What needs no engine, the doctor above all, works without onnxruntime-node; using the class says what is wrong. */
function withoutEngine(fault: EngineError): Used {
  class Missing {
    constructor() {
      throw fault;
    }
  }
  return { Tensor: Missing } as unknown as Used;
}

const { ort, fault } = load();

/** Why onnxruntime-node cannot be loaded; undefined where it can. */
export const ortFault = fault;

export const Tensor = ort.Tensor;
export type Tensor = Ort.Tensor;

/** Folder of the installed onnxruntime-node. @throws EngineError when there is none. */
export function packageFolder(): string {
  try {
    return dirname(require.resolve('onnxruntime-node/package.json'));
  } catch (cause) {
    throw ortFault ?? new EngineError('onnxruntime-node is not installed', { cause });
  }
}

/** Folder of the installed onnxruntime-node's native files for this platform. @throws EngineError as {@link packageFolder}. */
export function nativeFolder(): string {
  return join(packageFolder(), 'bin', 'napi-v6', process.platform, process.arch);
}
