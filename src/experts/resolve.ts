import { didYouMean, ExpertsError, expected, show } from '../errors.ts';
import { isRecord } from '../options.ts';
import { ExpertsInterface, unknownBackend } from './registry.ts';

/** Backend names in force: key `""` for the model as a whole and one key a sub-config. Frozen. */
export type ExpertsSetting = Readonly<Record<string, string>>;

/** What resolving needs to know of a model. */
export interface ExpertsModel {
  /** Names of the sub-configs, such as `text_config`; empty for a text-only model. */
  readonly subConfigs: readonly string[];
  readonly hasExperts: boolean;
  /** The parsed config.json, whose `experts_implementation` keys are honoured. */
  readonly fromConfig?: Readonly<Record<string, unknown>>;
}

/** A checked request: names by key. `""` speaks for every key that is absent. */
type Named = ReadonlyMap<string, string>;

/**
 * The setting of a freshly loaded model. Precedence: the request, then config.json (`experts_implementation` or
 * `_experts_implementation`, at the top and in each sub-config), then `grouped_mm` (`eager` for a model without experts).
 *
 * @param request a name for everything; or a map, in which `""` speaks for the model and for each sub-config the map does
 *   not name; null, undefined and `{}` ask for nothing
 * @throws ExpertsError for another type, an unknown key or name, or a model without experts asked for more than `eager`
 */
export function resolveExperts(request: unknown, model: ExpertsModel): ExpertsSetting {
  const named = parse(request, model, 'expertsImplementation');
  // A request that settles every key also rescues a config.json that asks for something impossible.
  return merge(named.has('') ? {} : configured(model), named, model);
}

/**
 * The setting after `setExpertsImplementation(request)`. Nothing changes when it throws, as `current` is never modified.
 *
 * @param request as for `resolveExperts`, except that a map without `""` leaves what it does not name, and null or
 *   undefined asks for the setting of a fresh load
 * @throws ExpertsError as `resolveExperts`
 */
export function applyExperts(current: ExpertsSetting, request: unknown, model: ExpertsModel): ExpertsSetting {
  if (request === null || request === undefined) return resolveExperts(request, model);
  return merge(current, parse(request, model, 'expertsImplementation'), model);
}

function configured(model: ExpertsModel): ExpertsSetting {
  const config = model.fromConfig ?? {};
  const fallback = new Map([['', model.hasExperts ? 'grouped_mm' : 'eager']]);
  let setting = merge({}, fallback, model);
  setting = merge(setting, parse(configKey(config), model, 'experts_implementation in config.json'), model);
  for (const key of model.subConfigs) {
    const value = configKey(config[key]);
    if (value === undefined || value === null) continue;
    const where = `${key}.experts_implementation in config.json`;
    setting = merge(setting, new Map([[key, checkName(value, model, where)]]), model);
  }
  return setting;
}

function configKey(config: unknown): unknown {
  if (!isRecord(config)) return undefined;
  return config.experts_implementation ?? config._experts_implementation;
}

function merge(current: ExpertsSetting, named: Named, model: ExpertsModel): ExpertsSetting {
  const everything = named.get('');
  return Object.freeze(
    Object.fromEntries(
      ['', ...model.subConfigs].map((key) => [key, named.get(key) ?? everything ?? (current[key] as string)]),
    ),
  );
}

function parse(request: unknown, model: ExpertsModel, what: string): Named {
  if (request === null || request === undefined) return new Map();
  if (typeof request === 'string') return new Map([['', checkName(request, model, what)]]);
  if (!isRecord(request)) {
    throw new ExpertsError(
      expected(
        what,
        request,
        `the name of a backend or a map of names; known are ${ExpertsInterface.choices().join(', ')}`,
      ),
    );
  }
  const named = new Map<string, string>();
  for (const [key, value] of Object.entries(request)) {
    checkKey(key, model, what);
    if (value !== null && value !== undefined)
      named.set(key, checkName(value, model, `${what}[${show(key)}]`));
  }
  // A string says the same as `{ "": string }` with no other key, so a map that names nothing is an empty request.
  return named;
}

function checkKey(key: string, model: ExpertsModel, what: string): void {
  if (key === '' || model.subConfigs.includes(key)) return;
  const valid = ['"" (the whole model)', ...[...model.subConfigs].sort().map((name) => show(name))];
  throw new ExpertsError(
    `Unknown key ${show(key)} in ${what}: this model takes ${valid.join(', ')}${didYouMean(key, model.subConfigs)}`,
  );
}

function checkName(value: unknown, model: ExpertsModel, what: string): string {
  const names = ExpertsInterface.choices();
  if (typeof value !== 'string') {
    throw new ExpertsError(expected(what, value, `the name of a backend; known are ${names.join(', ')}`));
  }
  if (!names.includes(value)) throw new ExpertsError(unknownBackend(value, names, ` in ${what}`));
  if (!model.hasExperts && value !== 'eager') {
    throw new ExpertsError(
      `${what} asks for ${show(value)}, but this model has no experts. Leave it out, or use "eager"`,
    );
  }
  return value;
}
