import { expect, test } from 'vitest';
import { EngineError } from '../../src/errors.ts';
import { requireNode } from '../../src/runtime/node-version.ts';

test.each(['20.9.0', '22.23.3', '100.0.0', process.versions.node])('Node.js %s will do', (version) => {
  expect(() => requireNode(version)).not.toThrow();
});

test.each(['18.20.8', '19.9.0', '8.0.0'])(
  'Node.js %s is refused before anything of it is missed',
  (version) => {
    expect(() => requireNode(version)).toThrow(EngineError);
    expect(() => requireNode(version)).toThrow(`needs Node.js 20 or later, and this is ${version};`);
  },
);
