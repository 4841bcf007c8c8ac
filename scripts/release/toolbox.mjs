// A folder with package managers and versions of Node, and a PATH on which there is nothing else: no compiler above all.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { MANAGER_PACKAGES, NODE_VERSIONS } from './managers.mjs';

/** What package managers, and shell scripts of theirs, call besides Node. */
const COMMANDS = [
  'sh',
  'bash',
  'env',
  'uname',
  'dirname',
  'basename',
  'sed',
  'cat',
  'ls',
  'readlink',
  'tar',
  'gzip',
];

/** Node itself, as a package without scripts. */
const NODE = `node-${process.platform}-${process.arch}`;

export function nodeIn(tools, version) {
  return join(tools, `node${version}`, 'node_modules', NODE, 'bin', 'node');
}

/** The PATH of a machine that has one version of Node. */
export function pathIn(tools, version) {
  return [dirname(nodeIn(tools, version)), join(tools, 'bin')].join(delimiter);
}

/** Fills the folder, by this machine's npm; what is there already stays. */
export function fillToolbox(tools) {
  const nodes = Object.entries(NODE_VERSIONS).map(([name, version]) => [`node${name}`, `${NODE}@${version}`]);
  for (const [name, spec] of [...Object.entries(MANAGER_PACKAGES), ...nodes]) {
    const folder = join(tools, name);
    const mark = join(folder, 'installed');
    if (existsSync(mark)) continue;
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{ "private": true }');
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--silent', spec], {
      cwd: folder,
      stdio: 'inherit',
    });
    writeFileSync(mark, spec);
  }
  const bin = join(tools, 'bin');
  rmSync(bin, { recursive: true, force: true });
  mkdirSync(bin);
  const folders = (process.env.PATH ?? '').split(delimiter);
  for (const name of COMMANDS) {
    const path = folders.map((folder) => join(folder, name)).find(existsSync);
    if (path) symlinkSync(path, join(bin, name));
  }
}
