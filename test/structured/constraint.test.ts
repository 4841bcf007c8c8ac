import { describe, expect, it } from 'vitest';
import { Automaton } from '../../src/structured/automaton.ts';
import { TokenGrammar } from '../../src/structured/constraint.ts';
import { compileSchema } from '../../src/structured/schema/compile.ts';
import { TokenTable } from '../../src/structured/token-table.ts';
import { Random } from '../helpers/random.ts';
import { randomSchema } from './random-schema.ts';
import { vocabulary } from './vocabulary.ts';

describe('a constraint on tokens', () => {
  it('lists exactly the tokens that it allows, in every state on the way to an end', () => {
    const random = new Random(3);
    const tokens = vocabulary(random);
    const end = tokens.length - 1;
    const table = new TokenTable({
      size: tokens.length,
      bytesOf: (id) => tokens[id],
      idsOf: () => [],
    });
    for (let round = 0; round < 12; round++) {
      const grammar = new TokenGrammar(new Automaton(compileSchema(randomSchema(random))), table);
      const constraint = grammar.start([end]);
      const text: Uint8Array[] = [];
      for (let step = 0; step < 200 && !constraint.isComplete; step++) {
        const allowed = [...constraint.allowed()].sort((a, b) => a - b);
        expect(allowed).toEqual([...tokens.keys()].filter((id) => constraint.allows(id)));
        expect(allowed).not.toEqual([]);
        const id = allowed.includes(end)
          ? end
          : (allowed[Math.floor(random.next() * allowed.length)] as number);
        text.push(tokens[id] ?? new Uint8Array(0));
        constraint.advance(id);
      }
      expect(constraint.isComplete).toBe(true);
      expect(() => JSON.parse(Buffer.concat(text).toString())).not.toThrow();
    }
  });

  it('serves several rows, each where it is', () => {
    const table = new TokenTable({
      size: 256,
      bytesOf: (id) => Uint8Array.of(id),
      idsOf: (text) => [...Buffer.from(text)],
    });
    const grammar = new TokenGrammar(new Automaton(compileSchema({ enum: [12, 3] })), table);
    const [one, other] = [grammar.start([]), grammar.start([])];
    one.advance(0x31);
    expect([one.allows(0x32), one.allows(0x33), other.allows(0x33)]).toEqual([true, false, true]);
    other.advance(0x33);
    expect([one.isComplete, other.isComplete]).toEqual([false, true]);
  });

  it('keeps its memory within bounds over long texts', () => {
    const table = new TokenTable({
      size: 256,
      bytesOf: (id) => Uint8Array.of(id),
      idsOf: (text) => [...Buffer.from(text)],
    });
    const automaton = new Automaton(compileSchema({ type: 'string', maxLength: 30_000 }));
    const constraint = new TokenGrammar(automaton, table).start([]);
    constraint.advance(0x22);
    for (let i = 0; i < 29_999; i++) constraint.advance(0x61);
    expect([constraint.allows(0x61), constraint.allows(0x22)]).toEqual([true, true]);
    constraint.advance(0x61);
    expect([constraint.allows(0x61), constraint.allows(0x22)]).toEqual([false, true]);
    expect(automaton.size).toBeLessThan(200_000);
  });
});
