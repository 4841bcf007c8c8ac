/** What a repo that is not found was probably meant to be. */
import { nearest, show, suggestion } from '../errors.ts';

/** Repos of the organisation `Qwen` whose architectures run here; a line for each model. */
const QWEN_REPOS = `
  Qwen1.5-MoE-A2.7B Qwen1.5-MoE-A2.7B-Chat Qwen1.5-MoE-A2.7B-Chat-GPTQ-Int4
  Qwen2-57B-A14B Qwen2-57B-A14B-Instruct Qwen2-57B-A14B-Instruct-GPTQ-Int4
  Qwen3-30B-A3B Qwen3-30B-A3B-Base Qwen3-30B-A3B-FP8 Qwen3-30B-A3B-GPTQ-Int4
  Qwen3-30B-A3B-Instruct-2507 Qwen3-30B-A3B-Instruct-2507-FP8
  Qwen3-30B-A3B-Thinking-2507 Qwen3-30B-A3B-Thinking-2507-FP8
  Qwen3-235B-A22B Qwen3-235B-A22B-FP8 Qwen3-235B-A22B-GPTQ-Int4
  Qwen3-235B-A22B-Instruct-2507 Qwen3-235B-A22B-Instruct-2507-FP8
  Qwen3-235B-A22B-Thinking-2507 Qwen3-235B-A22B-Thinking-2507-FP8
  Qwen3-Coder-30B-A3B-Instruct Qwen3-Coder-30B-A3B-Instruct-FP8
  Qwen3-Coder-480B-A35B-Instruct Qwen3-Coder-480B-A35B-Instruct-FP8
  Qwen3-Next-80B-A3B-Instruct Qwen3-Next-80B-A3B-Instruct-FP8
  Qwen3-Next-80B-A3B-Thinking Qwen3-Next-80B-A3B-Thinking-FP8
  Qwen3-Coder-Next Qwen3-Coder-Next-FP8
  Qwen3-VL-30B-A3B-Instruct Qwen3-VL-30B-A3B-Instruct-FP8 Qwen3-VL-30B-A3B-Thinking Qwen3-VL-30B-A3B-Thinking-FP8
  Qwen3-VL-235B-A22B-Instruct Qwen3-VL-235B-A22B-Instruct-FP8 Qwen3-VL-235B-A22B-Thinking Qwen3-VL-235B-A22B-Thinking-FP8
  Qwen3-Omni-30B-A3B-Instruct Qwen3-Omni-30B-A3B-Thinking Qwen3-Omni-30B-A3B-Captioner
  Qwen3.5-35B-A3B Qwen3.5-35B-A3B-Base Qwen3.5-35B-A3B-FP8 Qwen3.5-35B-A3B-GPTQ-Int4
  Qwen3.5-122B-A10B Qwen3.5-122B-A10B-FP8
  Qwen3.5-397B-A17B Qwen3.5-397B-A17B-FP8
  Qwen3.6-35B-A3B Qwen3.6-35B-A3B-FP8
  Qwen3.8-Flash-Next Qwen3.8-Flash-Next-FP8
  Qwen3-0.6B Qwen3-0.6B-Base Qwen3-0.6B-FP8
  Qwen3-1.7B Qwen3-1.7B-Base Qwen3-1.7B-FP8
  Qwen3-4B Qwen3-4B-Base Qwen3-4B-FP8 Qwen3-4B-Instruct-2507 Qwen3-4B-Instruct-2507-FP8
  Qwen3-8B Qwen3-8B-Base Qwen3-8B-FP8
  Qwen3-14B Qwen3-14B-Base Qwen3-14B-FP8
  Qwen3-32B Qwen3-32B-FP8
  Qwen3-Embedding-0.6B Qwen3-Embedding-4B Qwen3-Embedding-8B
  Qwen3.5-27B Qwen3.5-27B-FP8
  Qwen2.5-0.5B-Instruct Qwen2.5-1.5B-Instruct Qwen2.5-3B-Instruct Qwen2.5-7B Qwen2.5-7B-Instruct
  Qwen2.5-14B-Instruct Qwen2.5-32B-Instruct Qwen2.5-72B-Instruct
`
  .trim()
  .split(/\s+/);

/** Case, hyphens and dots are what gets lost on the way. */
const letters = (name: string) => name.toLowerCase().replace(/[^a-z\d]/g, '');

const digits = (name: string) => name.replace(/\D/g, '');

/**
 * The published repo that a name without an organisation, or with Qwen's, comes close to: spelt otherwise, cut short after the size, or with
 * a slip. A name of another organisation is none of ours, and another number is another model.
 */
function likelyRepo(id: string): string | undefined {
  const bare = /^(?:qwen\/)?([^/]{1,96})$/i.exec(id)?.[1];
  if (bare === undefined) return undefined;
  const wanted = letters(bare);
  const same = (name: string) => letters(name) === wanted;
  const begun = (name: string) => /^qwen.*\db/.test(wanted) && letters(name).startsWith(wanted);
  const close = () =>
    nearest(
      bare,
      QWEN_REPOS.filter((name) => digits(name) === digits(bare)),
    );
  const name = QWEN_REPOS.find(same) ?? QWEN_REPOS.find(begun) ?? close();
  return name === undefined ? undefined : `Qwen/${name}`;
}

/** The step that helps where a repo is not found, as the beginning of a sentence; nothing where its name seems right. */
export function spellingHint(id: string): string {
  const likely = likelyRepo(id);
  if (likely === id) return '';
  if (id.includes('/')) return likely === undefined ? '' : suggestion(likely);
  const meant = likely ?? `${/^qwen/i.test(id) ? 'Qwen' : 'organisation'}/${id}`;
  return `A repo id begins with its organisation, as ${show(meant)}`;
}
