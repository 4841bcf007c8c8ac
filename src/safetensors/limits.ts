/**
 * What we accept from a weights file at most. Files come from strangers: each bound is far above any real checkpoint
 * and far below what would hurt this process.
 */

/** Bytes of a header. The format's own limit. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Bytes of one header entry; only the `__metadata__` of trained adapters comes anywhere near. */
export const MAX_ENTRY_BYTES = 4 * 2 ** 20;
/** Tensors in a file, and in a checkpoint. The largest MoE checkpoints known have about 140,000. */
export const MAX_TENSORS = 200_000;
/** Bytes of a tensor's name. */
export const MAX_NAME_BYTES = 1024;
/** Dimensions of a tensor; PyTorch's own limit. */
export const MAX_RANK = 64;
/** Bytes of model.safetensors.index.json; 140,000 tensors take about 16 MB. */
export const MAX_INDEX_BYTES = 32 * 2 ** 20;
/** Files an index may name. */
export const MAX_SHARDS = 4096;
