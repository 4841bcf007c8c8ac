/** xgrammar, compiled to WASM: another engine that says which tokens may follow. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

type XGrammar = typeof import('@mlc-ai/web-xgrammar');

/** The package says that it is a module, but is a script in the way of CommonJS: Node takes it for one under such a name only. */
function load(): XGrammar {
  const require = createRequire(import.meta.url);
  const folder = mkdtempSync(join(tmpdir(), 'xgrammar-'));
  try {
    copyFileSync(require.resolve('@mlc-ai/web-xgrammar'), join(folder, 'index.cjs'));
    return require(join(folder, 'index.cjs'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const xgrammar = load();

/** Masks of schemas for one vocabulary, whose tokens are given in the letters of byte-level tokenizers. */
export async function openXGrammar(vocabulary: readonly string[], end: number) {
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
    [...vocabulary],
    'byte_level',
    false,
    vocabulary.length,
    [end],
  );
  const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info);
  return {
    /** @param schema of which it enforces every keyword */
    start: async (schema: unknown) => {
      const compiled = await compiler.compileJSONSchema(JSON.stringify(schema), true);
      const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(compiled);
      return {
        /** The tokens that may follow. */
        allowed: async (): Promise<ReadonlySet<number>> => {
          const mask = await matcher.getNextTokenBitmask();
          return new Set(
            [...vocabulary.keys()].filter((id) => ((mask[id >> 5] as number) >>> (id & 31)) & 1),
          );
        },
        advance: (id: number): boolean => matcher.acceptToken(id),
        dispose: () => matcher.dispose(),
      };
    },
  };
}
