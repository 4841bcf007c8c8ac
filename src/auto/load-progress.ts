/** How far a load is, as events of the stage `load`. */
import type { HubOptions, Repo } from '../hub/types.ts';
import type { CheckpointListener } from '../safetensors/checkpoint.ts';

type OnProgress = HubOptions['onProgress'];

/** On the CPU, where weights are mapped, a load is its headers: an event for each file whose header is sound, with the file's bytes. */
export function headerProgress(repo: Repo, onProgress: OnProgress): CheckpointListener {
  if (!onProgress) return {};
  const sizes = new Map<string, number>();
  let [loaded, total] = [0, 0];
  return {
    async onFiles(names) {
      for (const name of names) sizes.set(name, (await repo.look?.(name))?.size ?? 0);
      total = [...sizes.values()].reduce((a, b) => a + b, 0);
    },
    onOpen(file) {
      const bytes = sizes.get(file) ?? 0;
      loaded += bytes;
      const totals = { totalLoadedBytes: loaded, totalBytes: total };
      onProgress({ stage: 'load', file, loadedBytes: bytes, fileBytes: bytes, ...totals });
    },
  };
}

/** On a GPU it is the upload of the weights, told under the name of the first file. */
export function uploadProgress([file = '']: readonly string[], onProgress: OnProgress) {
  return (done: number, total: number) =>
    onProgress?.({
      ...{ stage: 'load', file, loadedBytes: done, fileBytes: total },
      ...{ totalLoadedBytes: done, totalBytes: total },
    });
}
