/** Everything that is wrong with a native file of this name, one sentence each. */
export function faultsOf(path: string, name: string): string[];
/** Checks all native files under a folder and prints a line each; whether all of them are sound. */
export function checkNativeFiles(folder: string): boolean;
