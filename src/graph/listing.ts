import { ELEMENT_TYPES } from '../dtype.ts';
import type { Attribute, GraphParts, Initializer, Node, TypedName } from './parts.ts';

/** Values of a constant that are shown. */
const LISTED_VALUES = 8;

/** A graph as text: one line for each input, constant, node and output. */
export function listGraph({ inputs, initializers, nodes, outputs }: GraphParts): string {
  const lines = [
    ...inputs.map((input) => `input ${typedText(input)}`),
    ...initializers.map((constant) => `constant ${typedText(constant)} = [${valuesText(constant)}]`),
    ...nodes.map(nodeText),
    ...outputs.map((output) => `output ${typedText(output)}`),
  ];
  return lines.join('\n');
}

function typedText({ name, dtype, shape }: TypedName): string {
  return `${name}: ${dtype}[${shape.join(',')}]`;
}

/** The first few values. */
function valuesText({ dtype, data }: Initializer): string {
  const values = [...new (ELEMENT_TYPES[dtype].array ?? Uint8Array)(data.slice().buffer)];
  const shown = values
    .slice(0, LISTED_VALUES)
    .map((value) => String(typeof value === 'bigint' ? value : Number(value.toPrecision(6))));
  return [...shown, ...(values.length > LISTED_VALUES ? ['…'] : [])].join(', ');
}

function nodeText({ opType, domain, inputs, outputs, attributes }: Node): string {
  const op = domain ? `${domain}.${opType}` : opType;
  const parameters = Object.entries(attributes).map(([key, value]) => `${key}=${attributeText(value)}`);
  const suffix = parameters.length > 0 ? ` {${parameters.join(' ')}}` : '';
  return `${outputs.join(', ')} = ${op}(${inputs.join(', ')})${suffix}`;
}

function attributeText(value: Attribute): string {
  return typeof value === 'object' && 'float' in value ? String(value.float) : JSON.stringify(value);
}
