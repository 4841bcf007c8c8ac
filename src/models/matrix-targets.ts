import type { MatrixKind } from './architecture.ts';

/** Patterns of names of modules in a layer: matrices of attention, full or linear, not the small ones that gate it. */
export const ATTENTION_MODULES = String.raw`(?:self_attn\.[qkvo]_proj|linear_attn\.(?:in_proj_(?:qkvz|qkv|z)|out_proj))`;
/** Matrices of routed experts, of one that all tokens share, and of a dense MLP. */
export const EXPERT_MODULES = String.raw`mlp\.(?:experts\.\d+\.|shared_expert\.)?(?:gate|up|down)_proj`;

/** Patterns of the names of modules by the kind of matrix that they are, as compressed-tensors matches them: what `tensorUse` says. */
export const MATRIX_TARGETS: Readonly<Record<MatrixKind, string>> = {
  attention: String.raw`re:.*\.${ATTENTION_MODULES}$`,
  experts: String.raw`re:.*\.${EXPERT_MODULES}$`,
  head: String.raw`re:(?:.*\.)?lm_head$`,
};
