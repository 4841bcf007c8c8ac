import { EngineError } from '../errors.ts';

const LEAST = 20;

/**
 * Says what older versions of Node.js would say in the midst of a run, of something that they lack.
 * @param version as `process.versions.node`, which Bun and Deno have, too
 * @throws EngineError below Node.js 20
 */
export function requireNode(version: string): void {
  if (Number.parseInt(version, 10) >= LEAST) return;
  throw new EngineError(
    `Switchyard needs Node.js ${LEAST} or later, and this is ${version}; take a version from https://nodejs.org, or one of Bun or Deno`,
  );
}
