import type { MatrixKind } from './architecture.ts';

/** Patterns of the names of modules by the kind of matrix that they are, as compressed-tensors matches them: what `tensorUse` says. */
export const MATRIX_TARGETS: Readonly<Record<MatrixKind, string>> = {
  attention: 're:.*\\.(?:self_attn\\.[qkvo]_proj|linear_attn\\.(?:in_proj_(?:qkvz|qkv|z)|out_proj))$',
  experts: 're:.*\\.mlp\\.(?:experts\\.\\d+\\.|shared_expert\\.)?(?:gate|up|down)_proj$',
  head: 're:(?:.*\\.)?lm_head$',
};
