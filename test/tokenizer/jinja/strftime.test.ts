import { expect, it } from 'vitest';
import { strftime } from '../../../src/tokenizer/jinja/strftime.ts';

const AFTERNOON = new Date(2024, 1, 29, 15, 4, 9);
const MIDNIGHT = new Date(2023, 11, 31, 0, 0, 0);

it.each([
  ['%d %b %Y', '29 Feb 2024'],
  ['%Y-%m-%d %H:%M:%S', '2024-02-29 15:04:09'],
  ['%F %T', '2024-02-29 15:04:09'],
  ['%A, %B %d, %I:%M %p', 'Thursday, February 29, 03:04 PM'],
  ['%a %y %j %% %Q', 'Thu 24 060 % %Q'],
])('formats %s as Python does', (format, text) => {
  expect(strftime(AFTERNOON, format)).toBe(text);
});

it('calls midnight 12 AM, and counts the days of a common year', () => {
  expect(strftime(MIDNIGHT, '%I %p %j')).toBe('12 AM 365');
});
