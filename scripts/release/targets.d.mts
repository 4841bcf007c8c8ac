export const targetNames: readonly string[];
export function targetRecipe(
  name: string,
  out: string,
): { readonly target: string; readonly compilerName: string };
