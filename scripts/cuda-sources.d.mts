export const kernelSources: readonly string[];
export const deviceSources: readonly string[];
export const sharedSources: readonly string[];
