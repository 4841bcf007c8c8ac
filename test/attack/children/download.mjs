// Fetches files of a repo, to be killed at any moment.
// argv: URL of the library, repo id, file names…
const [, , library, id, ...names] = process.argv;
const { resolveRepo } = await import(library);
const repo = await resolveRepo(id);
await repo.requireAll(names);
