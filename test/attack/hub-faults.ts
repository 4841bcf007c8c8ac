/** A hub that answers wrongly, slowly, too much or not at all. */
import { gzipSync } from 'node:zlib';
import { AbortError, HubError } from '../../src/errors.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { below, pick, type Random } from '../helpers/mutate.ts';
import type { Fault, Seen } from '../hub/fake-hub.ts';
import { QUICK } from '../hub/helpers.ts';
import { type Attack, withFolder } from './ground.ts';
import { damagedFile, ID, NAMES, repo, TOTAL, withHub } from './hub.ts';

/** Sending every file so often is still no endless download. */
const MOST_TIMES = 20;

const STATUSES = [301, 302, 304, 400, 401, 403, 404, 408, 409, 416, 429, 451, 500, 502, 503, 504, 520];
const ETAGS = [
  '',
  '""',
  '"../../x"',
  `"${'a'.repeat(300)}"`,
  '"a.incomplete"',
  '"A\u00e9"',
  'W/"weak"',
  '"/etc/x"',
];
const SIZES = ['-1', '0', '1', '9007199254740993', '1e9', 'NaN', '100 MB'];

const pageInstead = Buffer.from('<!doctype html><title>Sign in</title><p>Sign in to use this network');

/** One fault of one answer. */
const FAULTS: readonly ((random: Random, seen: Seen) => Fault)[] = [
  (random) => ({ status: pick(random, STATUSES) }),
  (random) => ({ status: 429, headers: { 'retry-after': pick(random, ['0', '1e9', 'never', '-5']) } }),
  (random) => ({ status: 302, headers: { location: pick(random, ['/', '//', 'ftp://x', 'http://[', '?']) } }),
  (random) => ({ cutAfter: below(random, 100_000) }),
  (random) => ({ stallAfter: below(random, 100_000) }),
  () => ({ chunked: true }),
  () => ({ ignoreRange: true }),
  () => ({ bytes: pageInstead, headers: { 'content-type': 'text/html' } }),
  (random, { path }) => ({ bytes: gzipSync(bytesOf(path)), headers: random() < 0.5 ? GZIPPED : {} }),
  (random, { path }) => ({ bytes: bytesOf(path).subarray(0, below(random, bytesOf(path).length + 1)) }),
  (random, { path }) => ({ bytes: Buffer.concat([bytesOf(path), Buffer.alloc(1 + below(random, 1000))]) }),
  (random, { path }) => ({ bytes: Buffer.alloc(bytesOf(path).length, below(random, 256)) }),
  (random) => ({ headers: { etag: pick(random, ETAGS) } }),
  (random) => ({ headers: { 'x-linked-etag': pick(random, ETAGS) } }),
  (random) => ({ headers: { 'x-linked-size': pick(random, SIZES) } }),
  (random) => ({ headers: { 'content-range': `bytes ${pick(random, SIZES)}-5/${pick(random, SIZES)}` } }),
  (random) => ({ headers: { 'x-repo-commit': pick(random, ['', '..', 'main', 'f'.repeat(40)]) } }),
];
/** Where a hub tells a file's hash. If it tells something else, nobody can see that other bytes of the right length are wrong. */
const NAMES_OF_HASHES = ['etag', 'x-linked-etag'];
const GZIPPED = { 'content-encoding': 'gzip' };

const bytesOf = (path: string): Buffer => repo.files[path]?.bytes ?? Buffer.from('{}');

export const hubFaults: Attack = {
  name: 'hub',
  round: (random) =>
    withFolder((cache) =>
      withHub(async (hub) => {
        const kinds = Array.from({ length: 1 + below(random, 3) }, () => pick(random, FAULTS));
        const share = pick(random, [0.1, 0.5, 1]);
        const unproven = new Set<string>();
        hub.fault = (seen) => {
          if (random() >= share) return undefined;
          const fault = pick(random, kinds)(random, seen);
          if (NAMES_OF_HASHES.some((name) => fault.headers?.[name] !== undefined)) unproven.add(seen.path);
          return fault;
        };
        const controller = new AbortController();
        const timer = random() < 0.2 ? setTimeout(() => controller.abort(), 50 * random()) : undefined;
        const outcome = await fetchAll(cache, controller.signal).catch((error: Error) => error);
        clearTimeout(timer);
        if (outcome && !(outcome instanceof HubError || outcome instanceof AbortError))
          return `raw ${outcome.name}: ${outcome.stack}`;
        const sent = hub.log.reduce((sum, seen) => sum + seen.sent, 0);
        if (sent > MOST_TIMES * TOTAL) return `${sent} bytes fetched of ${TOTAL}`;
        const damaged = await damagedFile(cache, unproven);
        if (damaged) return `${damaged} is not the hub's${outcome ? ` (${outcome.message})` : ''}`;
        hub.reset();
        const again = await fetchAll(cache).catch((error: Error) => error);
        if (again) return `does not recover: ${again.message}`;
        const wrong = await damagedFile(cache, unproven);
        return wrong && `${wrong} is not the hub's after all`;
      }, cache),
    ),
};

async function fetchAll(cacheDir: string, signal?: AbortSignal): Promise<void> {
  const options = { cacheDir, onWarning: () => {}, ...(signal && { signal }) };
  await (await resolveRepo(ID, options, QUICK)).requireAll(NAMES);
}
