import { describe, expect, it } from 'vitest';
import { Automaton } from '../../src/structured/automaton.ts';
import { TokenGrammar } from '../../src/structured/constraint.ts';
import { compileSchema } from '../../src/structured/schema/compile.ts';
import { wholeMatch } from '../../src/structured/text.ts';
import { TokenTable } from '../../src/structured/token-table.ts';

/** Every byte is a token, and so are some pieces, of which a text is made from the left, the longest first. */
const PIECES = ['{"', 'name', '":', ' "', '", "', '"}', 'ag', 'blue', '  '];
const BYTES = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...PIECES.map((one) => Buffer.from(one)),
];
const table = new TokenTable({
  size: BYTES.length,
  bytesOf: (id) => BYTES[id],
  idsOf: (text) => {
    const ids: number[] = [];
    for (let rest = Buffer.from(text); rest.length > 0; ) {
      const fitting = BYTES.filter((bytes) => rest.subarray(0, bytes.length).equals(bytes));
      const longest = fitting.reduce((a, b) => (b.length > a.length ? b : a));
      ids.push(BYTES.indexOf(longest));
      rest = rest.subarray(longest.length);
    }
    return ids;
  },
});

const object = (properties: object) => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

/** What is drafted after a text, token by token. */
function draftAfter(grammar: Automaton, text: string): string[] {
  const constraint = new TokenGrammar(grammar, table).start([]);
  for (const byte of Buffer.from(text)) constraint.advance(byte);
  return constraint.draft().map((id) => Buffer.from(BYTES[id] as Uint8Array).toString());
}

describe('what has to come next is foreseen', () => {
  const twoNames = object({
    name: { type: 'string' },
    age: { type: 'integer' },
  });
  it.each<[string, unknown, string, string[]]>([
    ['the name of a property, in its usual tokens', twoNames, '{"', ['name', '":', ' "']],
    ['the rest of one', twoNames, '{"na', ['m', 'e', '":', ' "']],
    ['nothing inside a text', twoNames, '{"name": "Jo', []],
    [
      'no more than the next name, where its value may begin in many ways',
      twoNames,
      '{"name": "Jo", "',
      ['ag', 'e', '":'],
    ],
    ['spaces as they stood before', twoNames, '{"name":"Jo",', ['"', 'ag', 'e', '":']],
    [
      'new lines, too',
      object({ a: { const: 1 }, b: { const: 2 }, c: { const: 3 } }),
      '{\n  "a": 1,\n  "b": 2,',
      ['\n', '  ', '"', 'c', '":', ' ', '3', '}'],
    ],
    [
      'one space, where there was none before',
      object({ a: { const: 1 }, b: { const: 1 } }),
      '{"a',
      ['":', ' ', '1', ',', ' "', 'b', '":', ' ', '1', '}'],
    ],
    ['no word that may go on', { enum: ['blue', 'black'] }, '"', []],
    ['a word that ends here', { enum: ['blue', '12'] }, '"b', ['l', 'u', 'e', '"']],
    ['nothing where the text may end', { type: 'integer' }, '12', []],
  ])('%s', (_, schema, text, expected) => {
    expect(draftAfter(new Automaton(compileSchema(schema)), text)).toEqual(expected);
  });

  it('whole characters of it', () => {
    const grammar = new Automaton(wholeMatch('xü😀[12]'));
    const draftOf = (bytes: readonly number[]) => {
      const constraint = new TokenGrammar(grammar, table).start([]);
      for (const byte of bytes) constraint.advance(byte);
      return constraint.draft();
    };
    expect(draftOf([0x78])).toEqual([...Buffer.from('ü😀')]);
    // Inside a character there is no text to make tokens of.
    expect(draftOf([0x78, 0xc3])).toEqual([]);
  });
});
