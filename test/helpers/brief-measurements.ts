type Machine = typeof import('../../src/runtime/machine.ts');

/**
 * What the machine can do, measured for a moment and over little memory: for tests of which it is no subject.
 * @example vi.mock(import('../../src/runtime/machine.ts'), async (original) => {
 *   const { briefly } = await import('../helpers/brief-measurements.ts');
 *   return briefly(await original());
 * });
 */
export function briefly(machine: Machine): Machine {
  return {
    ...machine,
    measureReadBandwidth: (options) =>
      machine.measureReadBandwidth({ ...options, bytes: 2 ** 20, seconds: 0.01 }),
    measureFlops: (precision, options) => machine.measureFlops(precision, { ...options, seconds: 0.01 }),
  };
}
