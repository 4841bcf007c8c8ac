/** Recurrent states live in slots, beside keys and values or without them. */
import { describe, expect, it } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { summingModel } from '../helpers/summing-model.ts';
import { describeStates, LAYERS, VOCAB } from './recurrent-states.ts';

describe.each(LAYERS.map((kinds) => [kinds.join(', '), kinds] as const))(
  'states of %s layers',
  (_, kinds) => {
    it('ask for the inputs of their kinds and no others', () => {
      const model = summingModel(VOCAB, kinds);
      const graph = new Graph({ info: () => undefined } as never);
      const variant = { device: 'cpu', dtype: 'float32', cacheDtype: 'float32', head: 'logits' } as const;
      model.build(graph, { ...variant, intermediates: false, visual: false, experts: {} as never });
      const inputs = ['block_tables', 'state_slots'].filter((name) => graph.listing().includes(name));
      expect(inputs).toEqual([
        ...(kinds.includes('keys_values' as never) ? ['block_tables'] : []),
        ...(kinds.includes('recurrent' as never) ? ['state_slots'] : []),
      ]);
    });

    describeStates('cpu', kinds);
  },
);
