import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { ExpertsError } from '../../src/errors.ts';
import { ExpertsInterface } from '../../src/experts/registry.ts';
import { applyExperts, type ExpertsModel, resolveExperts } from '../../src/experts/resolve.ts';

interface Row {
  model_type: string;
  given?: unknown;
  config_json?: Record<string, unknown>;
  result?: Record<string, string>;
  error?: string;
}
interface Sequence {
  model_type: string;
  start: unknown;
  initial: Record<string, string>;
  steps: { set: unknown; result: Record<string, string>; error?: string }[];
}
const table: { load: Row[]; config_file: Row[]; sequences: Sequence[] } = JSON.parse(
  readFileSync(new URL('../fixtures/goldens/experts_implementation/table.json', import.meta.url), 'utf8'),
);

const TEXT = 'qwen3_moe';
const VISION = 'qwen3_vl_moe';
const model = (modelType: string, fromConfig?: Record<string, unknown>): ExpertsModel => ({
  subConfigs: modelType === VISION ? ['vision_config', 'text_config'] : [],
  hasExperts: true,
  ...(fromConfig && { fromConfig }),
});
const given = (value: unknown) => (value === '(argument absent)' ? undefined : value);
const all = (name: string) => ({ '': name, vision_config: name, text_config: name });

/** What we do otherwise than the table, and why. `ours` is a setting, or what the error says. */
interface Deviation {
  model_type: string;
  request: unknown;
  reason: string;
  ours: Record<string, string> | RegExp;
}
const ONLY_OUR_BACKENDS = 'names of kernels that only transformers has are unknown unless registered';
const UNKNOWN_KEYS = 'a key the model does not have is an error, not ignored';
const DEFAULT_KEY = '"" is the default of every sub-config that the map does not name';

const LOAD_DEVIATIONS: Deviation[] = [
  ...[TEXT, VISION].flatMap((model_type) =>
    ['sonicmoe', 'deepgemm', 'deepgemm_megamoe'].map((request) => ({
      model_type,
      request,
      reason: ONLY_OUR_BACKENDS,
      ours: new RegExp(`Unknown experts implementation "${request}"`),
    })),
  ),
  ...[
    { text_config: 'batched_mm' },
    { text_config: 'eager', vision_config: 'batched_mm' },
    { '': 'eager', text_config: 'batched_mm' },
    { '': 'eager', text_config: 'batched_mm', vision_config: 'eager' },
    { text_config: 'fancy_mm' },
    { text_config: null },
  ].map((request) => ({
    model_type: TEXT,
    request,
    reason: UNKNOWN_KEYS,
    ours: /Unknown key "text_config" in expertsImplementation: this model takes "" \(the whole model\)/,
  })),
  ...[{ audio_config: 'eager' }, { '': 'eager', audio_config: 'nonsense' }].flatMap((request) =>
    [TEXT, VISION].map((model_type) => ({
      model_type,
      request,
      reason: UNKNOWN_KEYS,
      ours: /Unknown key "audio_config"/,
    })),
  ),
  { model_type: VISION, request: { '': 'eager' }, reason: DEFAULT_KEY, ours: all('eager') },
  { model_type: VISION, request: { '': 'batched_mm' }, reason: DEFAULT_KEY, ours: all('batched_mm') },
  {
    model_type: VISION,
    request: { '': 'eager', text_config: 'batched_mm' },
    reason: DEFAULT_KEY,
    ours: { '': 'eager', vision_config: 'eager', text_config: 'batched_mm' },
  },
];

const CONFIG_DEVIATIONS: Deviation[] = [
  {
    model_type: VISION,
    request: { 'text_config.experts_implementation': 'eager' },
    reason: "a sub-config's own key in config.json is honoured",
    ours: { '': 'grouped_mm', vision_config: 'grouped_mm', text_config: 'eager' },
  },
  {
    model_type: VISION,
    request: { experts_implementation: 'eager', 'text_config.experts_implementation': 'batched_mm' },
    reason: "a sub-config's own key in config.json is honoured",
    ours: { '': 'eager', vision_config: 'eager', text_config: 'batched_mm' },
  },
];

/** Steps of the set-sequences; each starts from the state that the table gives, so that deviations do not add up. */
const SET_DEVIATIONS: Deviation[] = [
  ...[TEXT, VISION].flatMap((model_type) => [
    {
      model_type,
      request: 'sonicmoe',
      reason: ONLY_OUR_BACKENDS,
      ours: /Unknown experts implementation "sonicmoe"/,
    },
  ]),
  { model_type: VISION, request: { '': 'batched_mm' }, reason: DEFAULT_KEY, ours: all('batched_mm') },
  { model_type: VISION, request: { '': 'grouped_mm' }, reason: DEFAULT_KEY, ours: all('grouped_mm') },
  {
    model_type: VISION,
    request: { '': 'eager', text_config: null },
    reason: 'null in a map means not named',
    ours: all('eager'),
  },
  {
    model_type: VISION,
    request: { audio_config: 'batched_mm' },
    reason: UNKNOWN_KEYS,
    ours: /Unknown key "audio_config"/,
  },
];

/** Takes the deviation for a request off the list, so that those never met show up. */
function deviationFor(list: Deviation[], modelType: string, request: unknown) {
  return list.find(
    (d) => d.model_type === modelType && JSON.stringify(d.request) === JSON.stringify(request),
  );
}

const met = new Set<Deviation>();
function check(deviation: Deviation | undefined, row: Row | Sequence['steps'][number], act: () => unknown) {
  if (deviation) {
    met.add(deviation);
    expect(deviation.ours, 'a deviation differs from the table').not.toEqual(
      row.error ? undefined : row.result,
    );
  }
  const expected = deviation?.ours ?? (row.error ? /./ : row.result);
  if (expected instanceof RegExp) {
    expect(act).toThrow(ExpertsError);
    expect(act).toThrow(expected);
  } else expect(act()).toEqual(expected);
}

describe('the table of transformers', () => {
  test.each(table.load)('load $model_type with $given', (row) => {
    const deviation = deviationFor(LOAD_DEVIATIONS, row.model_type, row.given);
    check(deviation, row, () => resolveExperts(given(row.given), model(row.model_type)));
  });

  test.each(table.config_file)('config.json of $model_type with $config_json', (row) => {
    const config: Record<string, unknown> = {};
    for (const [path, value] of Object.entries(row.config_json ?? {})) {
      const [key, inner] = path.split('.') as [string, string?];
      config[key] = inner === undefined ? value : { [inner]: value };
    }
    const deviation = deviationFor(CONFIG_DEVIATIONS, row.model_type, row.config_json);
    check(deviation, row, () => resolveExperts(undefined, model(row.model_type, config)));
  });

  test.each(table.sequences)('set on $model_type from $start', ({ model_type, initial, steps }) => {
    let state = initial;
    for (const step of steps) {
      const before = structuredClone(state);
      const deviation = deviationFor(SET_DEVIATIONS, model_type, step.set);
      check(deviation, step, () => applyExperts(state, step.set, model(model_type)));
      expect(state, 'the old setting is not touched').toEqual(before);
      state = step.result;
    }
  });

  test('every listed deviation was met', () => {
    const listed = [...LOAD_DEVIATIONS, ...CONFIG_DEVIATIONS, ...SET_DEVIATIONS];
    expect(listed.filter((deviation) => !met.has(deviation))).toEqual([]);
  });
});

describe('a request', () => {
  test('names the backend, sorted alternatives and the nearest', () => {
    expect(() => resolveExperts('EAGER', model(TEXT))).toThrow(
      'Unknown experts implementation "EAGER" in expertsImplementation. ' +
        'Known are: batched_mm, eager, grouped_mm, auto. Did you mean "eager"?',
    );
  });

  test('names the misspelt key, the valid ones and the nearest', () => {
    expect(() => resolveExperts({ txt_config: 'eager' }, model(VISION))).toThrow(
      'Unknown key "txt_config" in expertsImplementation: ' +
        'this model takes "" (the whole model), "text_config", "vision_config". Did you mean "text_config"?',
    );
  });

  test('names the key of a wrong backend', () => {
    expect(() => resolveExperts({ text_config: 'batched' }, model(VISION))).toThrow(
      /"batched" in expertsImplementation\["text_config"\]/,
    );
  });

  test.each([
    5,
    true,
    [],
    ['eager'],
    new Map([['', 'eager']]),
    () => 'eager',
    { '': 5 },
    { '': ['eager'] },
    { text_config: { '': 'eager' } },
    { text_config: {} },
  ])('of the wrong type is a type error: %j', (request) => {
    expect(() => resolveExperts(request, model(VISION))).toThrow(/expected the name of a backend/);
    expect(() => applyExperts(all('eager'), request, model(VISION))).toThrow(ExpertsError);
  });

  test('takes undefined values as not named', () => {
    expect(resolveExperts({ '': 'eager', text_config: undefined }, model(VISION))).toEqual(all('eager'));
  });

  test('records a backend for the vision tower, which has no experts', () => {
    expect(resolveExperts({ text_config: 'grouped_mm', vision_config: 'eager' }, model(VISION))).toEqual({
      '': 'grouped_mm',
      vision_config: 'eager',
      text_config: 'grouped_mm',
    });
  });

  test('answers with a frozen setting', () => {
    expect(Object.isFrozen(resolveExperts('eager', model(VISION)))).toBe(true);
    expect(Object.isFrozen(applyExperts(all('eager'), { text_config: 'batched_mm' }, model(VISION)))).toBe(
      true,
    );
  });
});

describe('a setting in force', () => {
  test('keeps every key when a later one of the map is refused', () => {
    const current = all('eager');
    expect(() => applyExperts(current, { '': 'batched_mm', text_config: 'nope' }, model(VISION))).toThrow(
      /"nope"/,
    );
    expect(current).toEqual(all('eager'));
  });

  test('null asks for the setting of a fresh load', () => {
    const fromConfig = { experts_implementation: 'batched_mm' };
    expect(applyExperts({ '': 'eager' }, null, model(TEXT, fromConfig))).toEqual({ '': 'batched_mm' });
    expect(applyExperts({ '': 'eager' }, undefined, model(TEXT))).toEqual({ '': 'grouped_mm' });
  });
});

describe('config.json', () => {
  const fromConfig = {
    experts_implementation: 'batched_mm',
    text_config: { _experts_implementation: 'eager' },
  };
  const asConfigured = { '': 'batched_mm', vision_config: 'batched_mm', text_config: 'eager' };

  test('speaks for what the argument does not name', () => {
    expect(resolveExperts({}, model(VISION, fromConfig))).toEqual(asConfigured);
    expect(resolveExperts({ vision_config: 'eager' }, model(VISION, fromConfig))).toEqual({
      ...asConfigured,
      vision_config: 'eager',
    });
  });

  test.each(['grouped_mm', { '': 'grouped_mm' }])(
    'gives way to an argument that speaks for everything: %j',
    (request) => {
      expect(resolveExperts(request, model(VISION, fromConfig))).toEqual(all('grouped_mm'));
      const damaged = { experts_implementation: 'fancy_mm', text_config: { experts_implementation: 7 } };
      expect(resolveExperts(request, model(VISION, damaged))).toEqual(all('grouped_mm'));
    },
  );

  test('is named when it is wrong', () => {
    expect(() => resolveExperts(undefined, model(TEXT, { experts_implementation: 'fancy_mm' }))).toThrow(
      /"fancy_mm" in experts_implementation in config\.json/,
    );
    expect(() =>
      resolveExperts(undefined, model(VISION, { text_config: { experts_implementation: 7 } })),
    ).toThrow(/text_config\.experts_implementation in config\.json is 7; expected the name of a backend/);
  });
});

describe('a model without experts', () => {
  const dense: ExpertsModel = { subConfigs: [], hasExperts: false };

  test.each([undefined, null, {}, 'eager', { '': 'eager' }])('is eager when asked for %j', (request) => {
    expect(resolveExperts(request, dense)).toEqual({ '': 'eager' });
    expect(applyExperts({ '': 'eager' }, request, dense)).toEqual({ '': 'eager' });
  });

  test.each(['grouped_mm', { '': 'batched_mm' }])('refuses %j at load and on set', (request) => {
    const refusal = /this model has no experts\. Leave it out, or use "eager"/;
    expect(() => resolveExperts(request, dense)).toThrow(refusal);
    expect(() => applyExperts({ '': 'eager' }, request, dense)).toThrow(refusal);
  });
});

describe('a registered backend', () => {
  afterEach(() => void ExpertsInterface.unregister('sonicmoe'));

  test('is accepted by name, at load, on set and in config.json', () => {
    ExpertsInterface.register('sonicmoe', { supports: () => true, emit: (_, inputs) => inputs.hiddenStates });
    expect(resolveExperts('sonicmoe', model(TEXT))).toEqual({ '': 'sonicmoe' });
    expect(applyExperts({ '': 'eager' }, 'sonicmoe', model(TEXT))).toEqual({ '': 'sonicmoe' });
    expect(resolveExperts(null, model(TEXT, { experts_implementation: 'sonicmoe' }))).toEqual({
      '': 'sonicmoe',
    });
  });
});
