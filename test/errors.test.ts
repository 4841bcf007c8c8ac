import { expect, it } from 'vitest';
import * as errors from '../src/errors.ts';

/** The same module a second time, as when two versions of the package are installed. */
const theirs = (await import(/* @vite-ignore */ `../src/errors.ts?${'copy'}`)) as typeof errors;

const ours = { ...errors };

const CLASSES = [
  'SwitchyardError',
  'ConfigError',
  'CheckpointError',
  'HubError',
  'ExpertsError',
  'TokenizerError',
  'InputError',
  'EngineError',
  'AbortError',
] as const;

it('copies are different classes', () => {
  expect(theirs.InputError).not.toBe(ours.InputError);
  expect(Object.getPrototypeOf(new theirs.InputError('x'))).not.toBe(ours.InputError.prototype);
});

it.each(CLASSES)('an error of another copy is a %s here, and nothing else', (name) => {
  const error = new theirs[name]('x');
  for (const other of CLASSES)
    expect(error instanceof ours[other]).toBe(other === name || other === 'SwitchyardError');
});

it.each(CLASSES)('%s has a code of its own', (name) => {
  const code =
    name === 'SwitchyardError' ? 'SWITCHYARD_ERROR' : `SWITCHYARD_${name.replace('Error', '').toUpperCase()}`;
  expect(new ours[name]('x').code).toBe(code);
  expect(Object.keys(new ours[name]('x'))).toEqual(['name', 'code']);
});

it('classes derived elsewhere keep to their own', () => {
  class Own extends ours.InputError {}
  class Other extends ours.InputError {}
  const error = new Own('x');
  expect([error instanceof Own, error instanceof Other]).toEqual([true, false]);
  expect([error instanceof ours.InputError, error instanceof theirs.InputError]).toEqual([true, true]);
  expect(new ours.InputError('x') instanceof Own).toBe(false);
});

it.each([null, undefined, 3, 'x', {}, new Error('x'), { name: 'InputError' }])('%o is none', (value) => {
  expect((value as object) instanceof ours.SwitchyardError).toBe(false);
});
