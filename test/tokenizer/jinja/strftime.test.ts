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

const FORMATS = [
  '%e|%k|%l|%P|%r',
  '%D|%R|%x|%X|%c',
  '%U|%W|%V|%G|%g|%u|%w',
  '%-d/%-m/%-y %-H:%-M:%-S %-I %-j',
  '%_d|%_H|%0e|%^a|%^B',
  '%h|%C|%n|%t|%%|%z|%Z|%',
];

it.each([
  [
    new Date(2023, 11, 31, 0, 0, 0),
    [
      '31| 0|12|am|12:00:00 AM',
      '12/31/23|00:00|12/31/23|00:00:00|Sun Dec 31 00:00:00 2023',
      '53|52|52|2023|23|7|0',
      '31/12/23 0:0:0 12 365',
      '31| 0|31|SUN|DECEMBER',
      'Dec|20|\n|\t|%|||%',
    ],
  ],
  [
    new Date(2021, 0, 3, 12, 0, 59),
    [
      ' 3|12|12|pm|12:00:59 PM',
      '01/03/21|12:00|01/03/21|12:00:59|Sun Jan  3 12:00:59 2021',
      '01|00|53|2020|20|7|0',
      '3/1/21 12:0:59 12 3',
      ' 3|12|03|SUN|JANUARY',
      'Jan|20|\n|\t|%|||%',
    ],
  ],
  [
    new Date(1999, 6, 4, 1, 2, 3),
    [
      ' 4| 1| 1|am|01:02:03 AM',
      '07/04/99|01:02|07/04/99|01:02:03|Sun Jul  4 01:02:03 1999',
      '27|26|26|1999|99|7|0',
      '4/7/99 1:2:3 1 185',
      ' 4| 1|04|SUN|JULY',
      'Jul|19|\n|\t|%|||%',
    ],
  ],
])('formats every field of %s', (date, texts) => {
  expect(FORMATS.map((format) => strftime(date, format))).toEqual(texts);
});
