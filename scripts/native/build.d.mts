export interface CompileRecipe {
  readonly compiler: () => string[];
  readonly compilerName: string;
  readonly flags: string[];
}
export function buildObjects(of: CompileRecipe, sources: readonly string[]): Promise<string[]>;
