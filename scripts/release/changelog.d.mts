/** What keeps `version` from being released, one sentence each. */
export function releaseFaults(version: string, changelog: string): string[];
