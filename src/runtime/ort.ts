/**
 * The only import of onnxruntime-node. It is loaded with `require` because onnxruntime-common keeps separate backend
 * registries and `Tensor` classes for `import` and `require`, and onnxruntime-node always uses the latter.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type * as Ort from 'onnxruntime-node';
import { EngineError } from '../errors.ts';

const require = createRequire(import.meta.url);

function load(): typeof Ort {
  try {
    return require('onnxruntime-node') as typeof Ort;
  } catch (cause) {
    throw new EngineError(
      `onnxruntime-node cannot be loaded on ${process.platform} ${process.arch}: ${(cause as Error).message}. ` +
        'Reinstall it with: npm rebuild onnxruntime-node',
      { cause },
    );
  }
}

const ort = load();

export const InferenceSession = ort.InferenceSession;
export type InferenceSession = Ort.InferenceSession;
export const Tensor = ort.Tensor;
export type Tensor = Ort.Tensor;
/** `registerBackend` of the registry that {@link InferenceSession} consults. */
export const registerBackend = ort.registerBackend;
export type { Backend, InferenceSessionHandler } from 'onnxruntime-common';
export type TensorType = Ort.Tensor.Type;
export type ValueMetadata = Ort.InferenceSession.ValueMetadata;

/** Folder of the installed onnxruntime-node's native files for this platform. */
export function nativeFolder(): string {
  const root = dirname(require.resolve('onnxruntime-node/package.json'));
  return join(root, 'bin', 'napi-v6', process.platform, process.arch);
}
