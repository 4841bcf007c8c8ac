import { TemplateFault } from './budget.ts';

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July'].concat([
  'August',
  'September',
  'October',
  'November',
  'December',
]);

/** A field of a date: a text, or a number with the digits it is filled up to. */
type Field = string | readonly [value: number, width: number, fill?: ' '];

const FIELDS: Readonly<Record<string, (date: Date) => Field>> = {
  Y: (date) => String(date.getFullYear()),
  C: (date) => [Math.floor(date.getFullYear() / 100), 2],
  y: (date) => [date.getFullYear() % 100, 2],
  m: (date) => [date.getMonth() + 1, 2],
  d: (date) => [date.getDate(), 2],
  e: (date) => [date.getDate(), 2, ' '],
  H: (date) => [date.getHours(), 2],
  k: (date) => [date.getHours(), 2, ' '],
  I: (date) => [date.getHours() % 12 || 12, 2],
  l: (date) => [date.getHours() % 12 || 12, 2, ' '],
  M: (date) => [date.getMinutes(), 2],
  S: (date) => [date.getSeconds(), 2],
  f: (date) => [date.getMilliseconds() * 1000, 6],
  s: (date) => String(Math.floor(date.getTime() / 1000)),
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  P: (date) => (date.getHours() < 12 ? 'am' : 'pm'),
  A: (date) => DAYS[date.getDay()] as string,
  a: (date) => (DAYS[date.getDay()] as string).slice(0, 3),
  B: (date) => MONTHS[date.getMonth()] as string,
  b: (date) => (MONTHS[date.getMonth()] as string).slice(0, 3),
  h: (date) => (MONTHS[date.getMonth()] as string).slice(0, 3),
  j: (date) => [dayOfYear(date), 3],
  u: (date) => String(date.getDay() || 7),
  w: (date) => String(date.getDay()),
  U: (date) => [Math.floor((dayOfYear(date) + 6 - date.getDay()) / 7), 2],
  W: (date) => [Math.floor((dayOfYear(date) + 6 - ((date.getDay() + 6) % 7)) / 7), 2],
  V: (date) => [isoWeek(date).week, 2],
  G: (date) => String(isoWeek(date).year),
  g: (date) => [isoWeek(date).year % 100, 2],
  F: (date) => strftime(date, '%Y-%m-%d'),
  D: (date) => strftime(date, '%m/%d/%y'),
  x: (date) => strftime(date, '%m/%d/%y'),
  T: (date) => strftime(date, '%H:%M:%S'),
  X: (date) => strftime(date, '%H:%M:%S'),
  R: (date) => strftime(date, '%H:%M'),
  r: (date) => strftime(date, '%I:%M:%S %p'),
  c: (date) => strftime(date, '%a %b %e %H:%M:%S %Y'),
  // `datetime.now()` knows no zone.
  z: () => '',
  Z: () => '',
  n: () => '\n',
  t: () => '\t',
  '%': () => '%',
};

const LONGEST_FORMAT = 10_000;

/**
 * Formats local time as Python's `datetime.strftime` does on Linux in the C locale, with the flags `-`, `_`, `0` and
 * `^` of the C library; unknown fields stay as they are.
 *
 * @throws {TemplateFault} the format is too long.
 */
export function strftime(date: Date, format: string): string {
  if (format.length > LONGEST_FORMAT) throw new TemplateFault('the format of strftime_now is too long');
  return format.replace(/%([-_0^]?)(.)/gs, (whole, flag: string, letter: string) => {
    if (!Object.hasOwn(FIELDS, letter)) return whole;
    const field = (FIELDS[letter] as (date: Date) => Field)(date);
    if (typeof field === 'string') return flag === '^' ? field.toUpperCase() : field;
    const [value, width, fill = '0'] = field;
    if (flag === '-') return String(value);
    return String(value).padStart(width, flag === '_' ? ' ' : flag === '0' ? '0' : fill);
  });
}

function dayOfYear(date: Date): number {
  const midnight = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return (midnight - Date.UTC(date.getFullYear(), 0, 1)) / 86_400_000 + 1;
}

/** The week that begins on Monday and belongs to the year in which its Thursday lies. */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 4 - (date.getDay() || 7));
  return { year: thursday.getFullYear(), week: Math.ceil(dayOfYear(thursday) / 7) };
}
