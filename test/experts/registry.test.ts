import { describe, expect, test } from 'vitest';
import { ExpertsError } from '../../src/errors.ts';
import type { ExpertsBackend } from '../../src/experts/interface.ts';
import { ExpertsInterface, ExpertsRegistry } from '../../src/experts/registry.ts';

const backend = (): ExpertsBackend => ({ supports: () => true, emit: (_, { hiddenStates }) => hiddenStates });
const registry = () => new ExpertsRegistry({ grouped_mm: backend(), eager: backend() });

describe('names', () => {
  test('the package ships three backends, listed in order', () => {
    expect(ExpertsInterface.names()).toEqual(['batched_mm', 'eager', 'grouped_mm']);
  });

  test('a registered name is listed among the built-in ones, sorted, until it is removed', () => {
    const own = registry();
    own.register('fancy', backend());
    expect(own.names()).toEqual(['eager', 'fancy', 'grouped_mm']);
    expect(own.isBuiltIn('fancy')).toBe(false);
    expect(own.isBuiltIn('eager')).toBe(true);
    expect(own.unregister('fancy')).toBe(true);
    expect(own.unregister('fancy')).toBe(false);
    expect(own.names()).toEqual(['eager', 'grouped_mm']);
  });
});

describe('register', () => {
  test('returns the backend that was registered last under a name', () => {
    const own = registry();
    const [first, second] = [backend(), backend()];
    own.register('fancy', first);
    expect(own.get('fancy')).toBe(first);
    own.register('fancy', second);
    expect(own.get('fancy')).toBe(second);
  });

  test.each(['', ' ', 'a=b', 'a,b', 'a b', 5, null, undefined])('refuses the name %j', (name) => {
    expect(() => registry().register(name as string, backend())).toThrow(ExpertsError);
  });

  test('built-in backends can be neither replaced nor removed', () => {
    const own = registry();
    const eager = own.get('eager');
    expect(() => own.register('eager', backend())).toThrow(/"eager" is built in and cannot be replaced/);
    expect(() => own.unregister('eager')).toThrow(/"eager" is built in and cannot be removed/);
    expect(own.get('eager')).toBe(eager);
  });

  test.each([
    ['supports', { emit() {} }],
    ['emit', { supports() {} }],
    ['emit', { supports() {}, emit: true }],
    ['supports', null],
    ['supports', undefined],
    ['supports', 'eager'],
  ])('names the missing function %s of %j', (missing, candidate) => {
    const own = registry();
    expect(() => own.register('fancy', candidate as unknown as ExpertsBackend)).toThrow(
      new RegExp(`^${missing} of the experts backend "fancy" is .*; expected a function`),
    );
    expect(own.has('fancy')).toBe(false);
  });
});

describe('get', () => {
  test('lists the known names and suggests the nearest', () => {
    expect(() => registry().get('grouped-mm')).toThrow(
      'Unknown experts implementation "grouped-mm". Known are: eager, grouped_mm. Did you mean "grouped_mm"?',
    );
  });

  test('suggests nothing where nothing is near', () => {
    expect(() => registry().get('sdpa')).toThrow(/Known are: eager, grouped_mm$/);
  });

  test('does not take members of Object.prototype for backends', () => {
    expect(() => registry().get('constructor')).toThrow(ExpertsError);
  });
});
