import type { CompileRecipe } from './build.d.mts';

export function compilerFlags(): string[];
export function linkerFlags(): string[];
export function findCompiler(): [command: string, ...args: string[]];
export function localRecipe(): CompileRecipe;
