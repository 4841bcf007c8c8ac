import { integerOf, type Signature } from './arguments.ts';
import { type Budget, TemplateFault } from './budget.ts';
import { iterate } from './iterate.ts';
import { isEqual } from './operators.ts';
import { Dict, DictView, either, type Tuple, type Value } from './values.ts';

/** Methods of `dict` that read. */
export const DICT_METHODS: Readonly<Record<string, Signature<Dict>>> = {
  items: ['', (self) => new DictView('items', self)],
  keys: ['', (self) => new DictView('keys', self)],
  values: ['', (self) => new DictView('values', self)],
  get: ['key default?', (self, [key, otherwise]) => either(self.get(key as Value), otherwise ?? null)],
  copy: [
    '',
    (self, _args, { budget }) => {
      budget.items(self.size);
      return new Dict(self.entries());
    },
  ],
  fromkeys: [
    'iterable value?',
    (_self, [keys, value], { budget }) => {
      const entries = [...iterate(keys as Value, budget)].map((key) => [key, value ?? null] as const);
      budget.items(entries.length);
      return new Dict(entries);
    },
  ],
};

/** Methods of `list` that read. */
export const LIST_METHODS: Readonly<Record<string, Signature<Value[]>>> = {
  index: [
    'value start? stop?',
    (self, [value, start, stop], { budget }) =>
      indexOf(
        self,
        value as Value,
        integerOf(start, 'start'),
        integerOf(stop, 'stop', self.length),
        budget,
        'list',
      ),
  ],
  count: ['value', (self, [value], { budget }) => countOf(self, value as Value, budget)],
  copy: [
    '',
    (self, _args, { budget }) => {
      budget.items(self.length);
      return [...self];
    },
  ],
};

export const TUPLE_METHODS: Readonly<Record<string, Signature<Tuple>>> = {
  index: [
    'value start? stop?',
    ({ items }, [value, start, stop], { budget }) =>
      indexOf(
        items,
        value as Value,
        integerOf(start, 'start'),
        integerOf(stop, 'stop', items.length),
        budget,
        'tuple',
      ),
  ],
  count: ['value', ({ items }, [value], { budget }) => countOf(items, value as Value, budget)],
};

export const NUMBER_METHODS: Readonly<Record<string, Signature<boolean | bigint | number>>> = {
  is_integer: ['', (self) => typeof self !== 'number' || Number.isInteger(self)],
};

function indexOf(
  items: readonly Value[],
  value: Value,
  start: number,
  stop: number,
  budget: Budget,
  kind: string,
): bigint {
  const bound = (index: number) => (index < 0 ? Math.max(0, index + items.length) : index);
  for (let i = bound(start); i < Math.min(bound(stop), items.length); i++) {
    if (isEqual(items[i] as Value, value, budget)) return BigInt(i);
  }
  throw new TemplateFault(kind === 'list' ? 'value is not in list' : 'tuple.index(x): x not in tuple');
}

function countOf(items: readonly Value[], value: Value, budget: Budget): bigint {
  return BigInt(items.filter((item) => isEqual(item, value, budget)).length);
}
