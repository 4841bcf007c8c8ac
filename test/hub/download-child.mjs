// Downloads files of a repo in a process of its own, to be killed at any moment.
// argv: path of resolve-repo.js, repo id, file names…
import { pathToFileURL } from 'node:url';

const [, , module, id, ...names] = process.argv;
const { resolveRepo } = await import(pathToFileURL(module).href);
const repo = await resolveRepo(id, {}, { firstPauseMs: 1, longestPauseMs: 5 });
await repo.requireAll(names);
