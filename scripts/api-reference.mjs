#!/usr/bin/env node
// Writes the reference of the API, from the docstrings, as web pages:
//
//   npm run docs [-- DIR]        into DIR, by default dist-docs
//
// TypeDoc comes by npm when it is wanted, with the compiler that it works with.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = process.argv[2] ?? 'dist-docs';
const packages = ['typedoc@0.28', 'typescript@5.9'].map((name) => `--package=${name}`);
const { status } = spawnSync(
  'npm',
  ['exec', '--yes', ...packages, '--', 'typedoc', '--options', 'configs/typedoc.json', '--out', out],
  { cwd: root, stdio: 'inherit' },
);
process.exitCode = status ?? 1;
