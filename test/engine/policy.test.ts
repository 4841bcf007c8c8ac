import { describe, expect, it } from 'vitest';
import { type BackendPolicy, chooseBackend, MOST_BATCHED_PAIRS } from '../../src/engine/tuning/policy.ts';

const CPU: BackendPolicy = {
  device: 'cpu',
  topK: 4,
  decodeWithBatchedMm: true,
  table: undefined,
  recordsSteps: () => false,
};
const GPU: BackendPolicy = { ...CPU, device: 'cuda' };
const TABLE = [
  { tokens: 1, backend: 'eager', recordable: 'grouped_mm' },
  { tokens: 16, backend: 'batched_mm', recordable: 'batched_mm' },
  { tokens: 64, backend: 'grouped_mm', recordable: 'grouped_mm' },
] as const;
const most = MOST_BATCHED_PAIRS / 4;

describe('without measurements', () => {
  it.each([
    ['the CPU changes nothing', 'grouped_mm', { tokens: 1, phase: 'decode' }, CPU, 'grouped_mm'],
    ['a GPU decodes few pairs one by one', 'grouped_mm', { tokens: 1, phase: 'decode' }, GPU, 'batched_mm'],
    ['up to the limit', 'grouped_mm', { tokens: most, phase: 'decode' }, GPU, 'batched_mm'],
    ['not beyond it', 'grouped_mm', { tokens: most + 1, phase: 'decode' }, GPU, 'grouped_mm'],
    ['a prefill stays', 'grouped_mm', { tokens: 1, phase: 'prefill' }, GPU, 'grouped_mm'],
    ['another choice stays', 'eager', { tokens: 1, phase: 'decode' }, GPU, 'eager'],
    ['so does one of the caller’s own', 'mine', { tokens: 1, phase: 'decode' }, GPU, 'mine'],
  ] as const)('%s', (_, requested, pass, policy, expected) => {
    expect(chooseBackend(requested, pass, policy)).toBe(expected);
  });

  it('stays where that is turned off', () => {
    const off = { ...GPU, decodeWithBatchedMm: false };
    expect(chooseBackend('grouped_mm', { tokens: 1, phase: 'decode' }, off)).toBe('grouped_mm');
  });
});

describe.each([CPU, GPU])('with measurements, on $device', (policy) => {
  it.each([
    [1, 'eager'],
    [3, 'eager'],
    [5, 'batched_mm'],
    [31, 'batched_mm'],
    [33, 'grouped_mm'],
    [64, 'grouped_mm'],
    [65, 'grouped_mm'],
  ])('%i tokens run on the winner at the nearest count: %s', (tokens, expected) => {
    for (const phase of ['prefill', 'decode'] as const)
      expect(chooseBackend('grouped_mm', { tokens, phase }, { ...policy, table: TABLE })).toBe(expected);
  });

  it('keeps what was asked for beyond the measured counts', () => {
    const table = [{ tokens: 8, backend: 'eager', recordable: 'batched_mm' }] as const;
    expect(chooseBackend('grouped_mm', { tokens: 9, phase: 'prefill' }, { ...policy, table })).toBe(
      'grouped_mm',
    );
  });

  it('decodes by the fastest that can be recorded, where steps by that one are', () => {
    const choose = (phase: 'prefill' | 'decode', recordsSteps: BackendPolicy['recordsSteps']) =>
      chooseBackend('grouped_mm', { tokens: 1, phase }, { ...policy, table: TABLE, recordsSteps });
    expect(choose('decode', () => true)).toBe('grouped_mm');
    expect(choose('prefill', () => true)).toBe('eager');
    expect(choose('decode', (name) => name === 'batched_mm')).toBe('eager');
  });

  it('never overrides another choice', () => {
    for (const name of ['batched_mm', 'eager', 'mine'])
      expect(chooseBackend(name, { tokens: 64, phase: 'decode' }, { ...policy, table: TABLE })).toBe(name);
  });
});
