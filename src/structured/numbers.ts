import { byte, choice, literal, NEVER, type Node, optional, repeat, sequence } from './grammar.ts';
import { DIGIT, INTEGER, NUMBER } from './json-text.ts';

/** Bounds of a number; the exclusive ones are numbers too. */
export interface Bounds {
  readonly minimum?: number | undefined;
  readonly maximum?: number | undefined;
  readonly exclusiveMinimum?: number | undefined;
  readonly exclusiveMaximum?: number | undefined;
}

/** Digits behind the point, where bounds do not ask for more: with the rest they stay below what a double tells apart. */
const FRACTION = 6;
/** Bounds are followed up to here; what is longer is bounded by what a double holds. */
export const LARGEST = Number.MAX_SAFE_INTEGER;

/** Whole numbers within bounds; `NEVER` where there are none. */
export function integerWithin(bounds: Bounds): Node {
  const low = Math.max(
    bounds.minimum === undefined ? -Infinity : Math.ceil(bounds.minimum),
    bounds.exclusiveMinimum === undefined ? -Infinity : Math.floor(bounds.exclusiveMinimum) + 1,
  );
  const high = Math.min(
    bounds.maximum === undefined ? Infinity : Math.floor(bounds.maximum),
    bounds.exclusiveMaximum === undefined ? Infinity : Math.ceil(bounds.exclusiveMaximum) - 1,
  );
  if (low <= -LARGEST && high >= LARGEST) return INTEGER;
  if (low > high) return NEVER;
  const [from, to] = [Math.max(low, -LARGEST), Math.min(high, LARGEST)];
  const negative = from < 0 ? sequence(literal('-'), wholeWithin(Math.max(1, -to), -from)) : NEVER;
  return choice(to >= 0 ? wholeWithin(Math.max(0, from), to) : NEVER, negative);
}

/** Whole numbers from `low` to `high`, both from 0 up. */
function wholeWithin(low: number, high: number): Node {
  if (low > high) return NEVER;
  const [first, last] = [String(low), String(high)];
  const ways: Node[] = [];
  for (let length = first.length; length <= last.length; length++) {
    const least = length === first.length ? first : `1${'0'.repeat(length - 1)}`;
    const most = length === last.length ? last : '9'.repeat(length);
    ways.push(digitsWithin(least, most));
  }
  return choice(...ways);
}

const range = (low: number, high: number) => byte([0x30 + low, 0x30 + high]);

/** Digits between two rows of digits of one length. */
function digitsWithin(low: string, high: string): Node {
  if (low.length === 0) return sequence();
  if (/^0*$/.test(low) && /^9*$/.test(high)) return repeat(DIGIT, low.length, low.length);
  const [first, last] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  if (first === last) return sequence(range(first, first), digitsWithin(low.slice(1), high.slice(1)));
  const ways = [
    sequence(range(first, first), digitsWithin(low.slice(1), '9'.repeat(rest))),
    sequence(range(last, last), digitsWithin('0'.repeat(rest), high.slice(1))),
  ];
  if (last - first > 1) ways.push(sequence(range(first + 1, last - 1), repeat(DIGIT, rest, rest)));
  return choice(...ways);
}

/** Numbers within bounds, written without an exponent; `NEVER` where there are none. */
export function numberWithin(bounds: Bounds): Node {
  const low = stricter(bounds.minimum, bounds.exclusiveMinimum, (a, b) => a > b);
  const high = stricter(bounds.maximum, bounds.exclusiveMaximum, (a, b) => a < b);
  if (!low && !high) return NUMBER;
  const positive = decimalsWithin(low && low.value >= 0 ? low : { value: 0, isOpen: false }, high);
  const negate = (bound: Bound | undefined) => bound && { value: -bound.value, isOpen: bound.isOpen };
  const below = negate(high);
  const negative = decimalsWithin(below && below.value > 0 ? below : { value: 0, isOpen: true }, negate(low));
  return choice(
    high && high.value < 0 ? NEVER : positive,
    low && low.value >= 0 ? NEVER : sequence(literal('-'), negative),
  );
}

interface Bound {
  readonly value: number;
  /** Whether the bound itself is left out. */
  readonly isOpen: boolean;
}

function stricter(
  closed: number | undefined,
  open: number | undefined,
  isTighter: (a: number, b: number) => boolean,
): Bound | undefined {
  if (open !== undefined && (closed === undefined || !isTighter(closed, open))) {
    // Beyond this a number with all its digits may be rounded to the bound that it must stay away from.
    const isLarge = Math.abs(open) > 10 ** (15 - FRACTION);
    return isLarge
      ? { value: isTighter(1, 0) ? open + 1 : open - 1, isOpen: false }
      : { value: open, isOpen: true };
  }
  return closed === undefined ? undefined : { value: closed, isOpen: false };
}

/** Decimals from `low`, which is not negative, to `high`. */
function decimalsWithin(low: Bound, high: Bound | undefined): Node {
  if (low.value > LARGEST) return NEVER;
  if (high && (high.value < low.value || (high.value === low.value && (low.isOpen || high.isOpen))))
    return NEVER;
  const [lowWhole, lowFraction] = decimal(low.value, 'up');
  if (!high) {
    return choice(
      sequence(literal(String(lowWhole)), fractionFrom(lowFraction, low.isOpen)),
      sequence(wholeWithin(lowWhole + 1, LARGEST), anyFraction),
    );
  }
  const [highWhole, highFraction] = decimal(high.value, 'down');
  if (Number(`${lowWhole}.${lowFraction}`) > Number(`${highWhole}.${highFraction}`)) return NEVER;
  if (lowWhole === highWhole) {
    return sequence(
      literal(String(lowWhole)),
      fractionBetween(lowFraction, low.isOpen, highFraction, high.isOpen),
    );
  }
  return choice(
    sequence(literal(String(lowWhole)), fractionFrom(lowFraction, low.isOpen)),
    sequence(wholeWithin(lowWhole + 1, highWhole - 1), anyFraction),
    sequence(literal(String(highWhole)), fractionTo(highFraction, high.isOpen)),
  );
}

/** Digits behind the point in which bounds are followed; those that have more are drawn in. */
const MOST_FRACTION = 12;

/** Whole part and digits behind the point, without zeros at the end. @param drawn which way digits too many are rounded */
function decimal(value: number, drawn: 'up' | 'down'): [number, string] {
  const bounded = Math.min(value, LARGEST);
  const text = /e/.test(String(bounded)) ? bounded.toFixed(20) : String(bounded);
  const [whole = '0', fraction = ''] = text.split('.');
  if (fraction.length <= MOST_FRACTION) return [Number(whole), fraction];
  const cut = BigInt(whole + fraction.slice(0, MOST_FRACTION)) + (drawn === 'up' ? 1n : 0n);
  const digits = String(cut).padStart(MOST_FRACTION + 1, '0');
  const end = digits.length - MOST_FRACTION;
  return [Number(digits.slice(0, end)), digits.slice(end).replace(/0+$/, '')];
}

const point = literal('.');
const anyFraction = optional(sequence(point, repeat(DIGIT, 1, FRACTION)));
const zeros = (most: number) => repeat(range(0, 0), 0, most);

/** Digits still allowed after those that a bound has. */
const more = (digits: string) => Math.max(FRACTION - digits.length, 1);

/** What may follow a whole number so that its fraction is at least (more than, if open) `0.digits`. */
function fractionFrom(digits: string, isOpen: boolean): Node {
  if (digits === '' && !isOpen) return anyFraction;
  return sequence(point, digitsFrom(digits, isOpen, more(digits)));
}

function digitsFrom(digits: string, isOpen: boolean, beyond: number): Node {
  if (!isOpen && /^0*$/.test(digits)) return repeat(DIGIT, 0, digits.length + beyond);
  if (digits === '') return sequence(zeros(beyond - 1), range(1, 9));
  const anyMore = repeat(DIGIT, 0, digits.length - 1 + beyond);
  const first = Number(digits[0]);
  const same = sequence(range(first, first), digitsFrom(digits.slice(1), isOpen, beyond));
  return first < 9 ? choice(same, sequence(range(first + 1, 9), anyMore)) : same;
}

/** What may follow a whole number so that its fraction is at most (less than, if open) `0.digits`. */
function fractionTo(digits: string, isOpen: boolean): Node {
  if (digits === '') return isOpen ? NEVER : optional(sequence(point, repeat(range(0, 0), 1, FRACTION)));
  return optional(sequence(point, digitsTo(digits, isOpen, more(digits), false)));
}

/** @param mayEnd whether there is a digit before these already */
function digitsTo(digits: string, isOpen: boolean, beyond: number, mayEnd: boolean): Node {
  if (digits === '') return isOpen ? NEVER : zeros(beyond);
  const first = Number(digits[0]);
  const rest = digitsTo(digits.slice(1), isOpen, beyond, true);
  const same = rest === NEVER ? NEVER : sequence(range(first, first), rest);
  const lower =
    first > 0 ? sequence(range(0, first - 1), repeat(DIGIT, 0, digits.length - 1 + beyond)) : NEVER;
  const way = choice(same, lower);
  return mayEnd ? optional(way) : way;
}

/** What may follow a whole number so that its fraction lies between two. */
function fractionBetween(low: string, lowOpen: boolean, high: string, highOpen: boolean): Node {
  const width = Math.max(low.length, high.length);
  if (width === 0) return lowOpen || highOpen ? NEVER : fractionTo('', false);
  const [from, to] = [low.padEnd(width, '0'), high.padEnd(width, '0')];
  const withPoint = between(from, lowOpen, to, highOpen, Math.max(FRACTION - width, 1));
  const none = low === '' && !lowOpen;
  if (withPoint === NEVER) return none ? sequence() : NEVER;
  const node = sequence(point, withPoint);
  return none ? optional(node) : node;
}

/** Digits from `low` to `high`, which are of one length and not equal, or equal and both closed. */
function between(low: string, lowOpen: boolean, high: string, highOpen: boolean, beyond: number): Node {
  if (low === '') return lowOpen || highOpen ? NEVER : zeros(beyond);
  const [first, last] = [Number(low[0]), Number(high[0])];
  if (first === last) {
    const rest = between(low.slice(1), lowOpen, high.slice(1), highOpen, beyond);
    return rest === NEVER ? NEVER : sequence(range(first, first), rest);
  }
  const rest = low.length - 1;
  const ways = [
    sequence(range(first, first), digitsFrom(low.slice(1), lowOpen, beyond)),
    upTo(range(last, last), high.slice(1), highOpen, beyond),
  ];
  if (last - first > 1) ways.push(sequence(range(first + 1, last - 1), repeat(DIGIT, 0, rest + beyond)));
  return choice(...ways);
}

/** A digit, then digits of at most `high`, which may have zeros at its end. */
function upTo(digit: Node, high: string, isOpen: boolean, beyond: number): Node {
  const significant = high.replace(/0+$/, '');
  if (significant === '' && isOpen) return NEVER;
  const rest = digitsTo(significant, isOpen, beyond + high.length - significant.length, true);
  return rest === NEVER ? digit : sequence(digit, rest);
}
