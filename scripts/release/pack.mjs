#!/usr/bin/env node
// Makes the package that is published, from what is committed, and tries it:
//
//   npm run release:pack -- --out DIR [--work DIR] [--trial] [--skip-projects]
//
// --out            gets the tarball and its SHA256SUMS
// --work           keeps clone, tools and downloads for the next time
// --trial          takes what is committed without a version of its own in the changelog
// --skip-projects  leaves the installations in projects out
//
// It clones the repository, compiles the native code for every platform, checks it, packs, installs the tarball in projects of every kind
// and lets the demo model speak there. What it needs: Debian 12 with the packages that targets.mjs names, and npm.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { releaseFaults } from './changelog.mjs';
import { checkNativeFiles } from './checks.mjs';
import { targetNames } from './targets.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

class ReleaseError extends Error {}

const options = parseArgs({
  options: {
    out: { type: 'string' },
    work: { type: 'string' },
    trial: { type: 'boolean', default: false },
    'skip-projects': { type: 'boolean', default: false },
  },
}).values;

function run(command, args, cwd) {
  console.log(`> ${command} ${args.join(' ')}`);
  execFileSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
}

function say(command, args, cwd) {
  return execFileSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 2 ** 26 });
}

/** A clone of what is committed, so that nothing of this folder gets into the package. */
function cloneInto(folder) {
  if (say('git', ['status', '--porcelain'], root).trim() !== '')
    throw new ReleaseError('there are changes that are not committed; a release is what is committed');
  const commit = say('git', ['rev-parse', 'HEAD'], root).trim();
  if (!existsSync(folder)) run('git', ['clone', '--quiet', root, folder]);
  run('git', ['fetch', '--quiet', root, commit], folder);
  run('git', ['checkout', '--quiet', '--force', '--detach', commit], folder);
  rmSync(join(folder, 'dist'), { recursive: true, force: true });
  rmSync(join(folder, 'prebuilds'), { recursive: true, force: true });
}

function checkChangelog(clone) {
  const { version } = JSON.parse(readFileSync(join(clone, 'package.json'), 'utf8'));
  const faults = releaseFaults(version, readFileSync(join(clone, '.github/CHANGELOG.md'), 'utf8'));
  if (faults.length === 0) return;
  const text = faults.join('; ');
  if (!options.trial) throw new ReleaseError(`${text}. --trial packs all the same`);
  console.log(`on trial: ${text}`);
}

function build(clone) {
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], clone);
  run('npm', ['run', '--silent', 'build:ts'], clone);
  const prebuilds = join(clone, 'prebuilds');
  for (const target of targetNames)
    run('node', ['scripts/build-native.mjs', '--target', target, '--out', prebuilds], clone);
  run('node', ['scripts/build-cuda.mjs', '--if-available', '--release', join(prebuilds, 'linux-x64')], clone);
  if (!checkNativeFiles(prebuilds))
    throw new ReleaseError('native files are not fit for other machines; see above');
}

/** Packs what `files` names; of package.json what is of use where the package is installed. */
function pack(clone, out) {
  const list = JSON.parse(say('npm', ['pack', '--ignore-scripts', '--dry-run', '--json'], clone));
  const { files } = Object.values(list)[0];
  const stage = join(dirname(clone), 'stage');
  rmSync(stage, { recursive: true, force: true });
  for (const { path } of files) cpSync(join(clone, path), join(stage, path));
  const { scripts, devDependencies, allowScripts, ...published } = JSON.parse(
    readFileSync(join(clone, 'package.json'), 'utf8'),
  );
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(published, undefined, 2)}\n`);
  mkdirSync(out, { recursive: true });
  const [{ filename, size, unpackedSize }] = Object.values(
    JSON.parse(say('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', out], stage)),
  );
  const digest = createHash('sha256')
    .update(readFileSync(join(out, filename)))
    .digest('hex');
  writeFileSync(join(out, 'SHA256SUMS'), `${digest}  ${filename}\n`);
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  console.log(
    `${join(out, filename)}: ${megabytes(size)}, ${megabytes(unpackedSize)} unpacked, ${files.length} files`,
  );
  return join(out, filename);
}

async function main() {
  if (options.out === undefined) throw new ReleaseError('--out names the folder for the tarball');
  const work = resolve(options.work ?? mkdtempSync(join(tmpdir(), 'switchyard-release-')));
  try {
    const clone = join(work, 'clone');
    mkdirSync(work, { recursive: true });
    cloneInto(clone);
    checkChangelog(clone);
    build(clone);
    const tarball = pack(clone, resolve(options.out));
    if (!options['skip-projects'])
      run('node', ['scripts/release/try-package.mjs', tarball, '--work', join(work, 'projects')], clone);
  } finally {
    if (options.work === undefined) rmSync(work, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof ReleaseError) && error.status === undefined) throw error;
  console.error(`release: ${error.message}`);
  process.exitCode = 1;
}
