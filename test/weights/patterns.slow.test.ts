import { expect, it } from 'vitest';
import { ConfigError } from '../../src/errors.ts';
import { Patterns, withinTime } from '../../src/weights/formats/patterns.ts';

it('a pattern that would never come to an end is stopped', () => {
  const name = `${'a'.repeat(40)}!`;
  const match = () => new Patterns('config.json').matches('(a+)+$', name);
  expect(() => withinTime(match, 1, '/m/model.safetensors')).toThrow(ConfigError);
});
