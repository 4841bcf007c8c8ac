/** Which supported architecture is nearest to one that is not, by what HF's names of types say. */
import { didYouMean, show } from '../errors.ts';

/** What the name of a Qwen type says. */
interface Traits {
  /** Such as 2.5 of `qwen2_5_vl`; 1 where there is no number. */
  readonly generation: number;
  readonly sees: boolean;
  readonly hears: boolean;
  readonly hasExperts: boolean;
}

/** Endings of types that are a part of a model, as the configs inside of HF's configs have. */
const PART =
  /_(?:text|thinker|(?:vision|audio)_encoder|encoder|vision|talker|talker_\w+|code2wav|token2wav|bigvgan|dit)$/;

/** A name in the manner of HF's, of whatever generation: no slip of the pen, whatever it resembles. */
const NAME = new RegExp(`^qwen\\d*(?:_\\d+)?(?:_(?:vl|omni|audio|asr|moe|next|exp))*(?:${PART.source}|$)`);

/** Models from this generation on see, but for those called text. */
const ALL_SEE = 3.5;

function traitsOf(type: string): Traits | undefined {
  const found = /^qwen(\d+)?(?:_(\d+))?(?=_|$)/.exec(type);
  if (!found) return undefined;
  const [{ length }, major = '1', minor = '0'] = found;
  const generation = Number(`${major}.${minor}`);
  const has = (words: RegExp) => words.test(type.slice(length));
  const hears = has(/_(?:omni|audio|asr)(?=_|$)/);
  const sees = has(/_(?:vl|omni)(?=_|$)/) || (generation >= ALL_SEE && !hears);
  return {
    generation,
    hears,
    sees,
    hasExperts: has(/_(?:moe|next|exp)(?=_|$)/),
  };
}

/** What a model takes in counts most, then its generation, then whether it has experts. */
function distance(a: Traits, b: Traits): number {
  const differs = (key: 'sees' | 'hears' | 'hasExperts') => (a[key] === b[key] ? 0 : 1);
  const generations = Math.abs(a.generation - b.generation);
  return 32 * differs('hears') + 16 * differs('sees') + 5 * generations + 2 * differs('hasExperts');
}

/**
 * What leads on from a type that is not supported, as sentences behind one that says so: the supported one that was meant, or the nearest
 * and what sets them apart.
 * @param known the supported ones
 */
export function typeHint(type: string, known: readonly string[]): string {
  // Another number is another architecture, not a slip.
  const digits = (name: string) => name.replace(/\D/g, '');
  const alike = known.filter((name) => digits(name) === digits(type));
  const meant = NAME.test(type) ? '' : didYouMean(type, alike);
  if (meant !== '') return meant;
  const near = nearestType(type, known);
  return `${near === undefined ? '' : `. ${near}`}. Its models cannot be run here; "switchyard models" lists some that can`;
}

/** Undefined for types that are none of Qwen's. */
function nearestType(type: string, known: readonly string[]): string | undefined {
  const whole = type.replace(PART, '');
  if (whole !== type && known.includes(whole))
    return `It is a part of ${whole}, which is supported as a whole: take the config.json in which this one stands`;
  const traits = traitsOf(whole);
  if (!traits) return undefined;
  const [nearest] = known
    .filter((name) => !PART.test(name))
    .flatMap((name) => {
      const others = traitsOf(name);
      return others ? [{ name, others, apart: distance(traits, others) }] : [];
    })
    .sort((a, b) => a.apart - b.apart);
  return nearest && comparison(whole, traits, nearest.name, nearest.others);
}

function comparison(type: string, ours: Traits, name: string, theirs: Traits): string {
  const same = (key: keyof Traits) => ours[key] === theirs[key];
  if (same('generation') && same('hears') && same('sees') && !same('hasExperts'))
    return theirs.hasExperts
      ? `${show(type)} is the dense sibling of ${name}, which is supported`
      : `${show(type)} is the sibling with experts of ${name}, which is supported`;
  const apart = [
    ...(same('generation') ? [] : [`is of generation ${theirs.generation} instead of ${ours.generation}`]),
    ...(same('hears') ? [] : [theirs.hears ? 'hears' : 'does not hear']),
    ...(same('sees') ? [] : [theirs.sees ? 'sees' : 'does not see']),
    ...(same('hasExperts') ? [] : [theirs.hasExperts ? 'has experts' : 'has no experts']),
  ];
  const which = apart.length > 0 ? `, which ${apart.join(', ').replace(/, ([^,]*)$/, ' and $1')}` : '';
  return `The nearest type that is supported is ${name}${which}`;
}
