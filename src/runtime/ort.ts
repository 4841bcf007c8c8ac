/**
 * The only import of onnxruntime-node. It is loaded with `require` because onnxruntime-common keeps separate backend
 * registries and `Tensor` classes for `import` and `require`, and onnxruntime-node always uses the latter.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type * as Ort from 'onnxruntime-node';
import { EngineError } from '../errors.ts';

const require = createRequire(import.meta.url);

type Used = Pick<typeof Ort, 'InferenceSession' | 'Tensor' | 'registerBackend'>;

function load(): { ort: Used; fault: EngineError | undefined } {
  try {
    return { ort: require('onnxruntime-node') as typeof Ort, fault: undefined };
  } catch (cause) {
    const fault = new EngineError(
      `onnxruntime-node cannot be loaded on ${process.platform} ${process.arch}: ${(cause as Error).message}. ` +
        'Reinstall it with: npm rebuild onnxruntime-node',
      { cause },
    );
    return { ort: withoutEngine(fault), fault };
  }
}

/** What needs no engine, the doctor above all, works without onnxruntime-node; using a class says what is wrong. */
function withoutEngine(fault: EngineError): Used {
  const refuse = (): never => {
    throw fault;
  };
  class Missing {
    static create = refuse;
    constructor() {
      refuse();
    }
  }
  return { InferenceSession: Missing, Tensor: Missing, registerBackend() {} } as unknown as Used;
}

const { ort, fault } = load();

/** Why onnxruntime-node cannot be loaded; undefined where it can. */
export const ortFault = fault;

export const InferenceSession = ort.InferenceSession;
export type InferenceSession = Ort.InferenceSession;
export const Tensor = ort.Tensor;
export type Tensor = Ort.Tensor;
/** `registerBackend` of the registry that {@link InferenceSession} consults. */
export const registerBackend = ort.registerBackend;
export type { Backend, InferenceSessionHandler } from 'onnxruntime-common';
export type TensorType = Ort.Tensor.Type;
export type ValueMetadata = Ort.InferenceSession.ValueMetadata;

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
