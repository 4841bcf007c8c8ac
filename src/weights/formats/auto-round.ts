import { z } from 'zod';
import { readAwq } from './awq.ts';
import type { Format, QuantizationSettings, Settings } from './format.ts';
import { gptqFields, gptqOverride, gptqParts, readGptq } from './gptq.ts';
import { Patterns } from './patterns.ts';
import { parseSettings, placeOf, within } from './settings.ts';

/** Of modules that `extra_config` leaves as they are. */
const PLAIN_BITS = 16;

const AWQ = 'auto_round:auto_awq';
const GPTQ_V1 = 'auto_round:auto_gptq';
const schema = z.object({
  ...gptqFields,
  data_type: z.literal('int').default('int'),
  packing_format: z.enum(['auto_round', GPTQ_V1, 'auto_round:gptqmodel', AWQ]).default('auto_round'),
  extra_config: z.record(z.string(), z.record(z.string(), z.unknown())).default({}),
});

/** What marks a name in `extra_config` as a pattern. */
const SPECIAL = /[*+?^$()[\]{}|\\]/;

/**
 * Intel's AutoRound, in the packing of GPTQ or AWQ. Only `auto_round:auto_gptq` stores zero points less 1. `extra_config` says by name or
 * pattern where modules differ.
 */
export const autoRound: Format = {
  title: 'auto-round',
  methods: ['auto-round', 'auto_round', 'intel/auto-round'],
  open(settings) {
    const { packing_format: packing, extra_config: extra, ...base } = parseSettings(schema, settings);
    const find = overridesOf(extra, settings);
    return {
      split: gptqParts,
      read(module) {
        const own = find(module.storedName);
        const fields = own ? gptqOverride(base, own) : base;
        return packing === AWQ
          ? readAwq(module, fields.group_size, own ?? settings)
          : readGptq(module, { ...fields, lessOne: packing === GPTQ_V1, settings: own ?? settings });
      },
    };
  },
};

/** Finds what the settings say of one module: by its name, else by the first pattern in it. */
function overridesOf(extra: Readonly<Record<string, Settings>>, settings: QuantizationSettings) {
  const patterns = new Patterns(placeOf(settings, 'extra_config'));
  const entries = Object.entries(extra)
    .filter(([, { bits }]) => !(typeof bits === 'number' && bits >= PLAIN_BITS))
    .map(([name, json]) => ({ name, own: within(settings, `extra_config.${name}`, json) }));
  const exact = new Map(entries.map(({ name, own }) => [name, own]));
  const loose = entries.filter(({ name }) => SPECIAL.test(name));
  return (module: string) =>
    exact.get(module) ?? loose.find(({ name }) => patterns.occurs(name, module))?.own;
}
