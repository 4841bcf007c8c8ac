// Downloads files of a repo in a process of its own, to be killed at any moment.
// argv: path of resolve-repo.js, repo id, file names…
const [, , module, id, ...names] = process.argv;
const { resolveRepo } = await import(module);
const repo = await resolveRepo(id, {}, { firstPauseMs: 1, longestPauseMs: 5 });
await repo.requireAll(names);
