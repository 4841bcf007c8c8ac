import { ANY, utf8 } from '../characters.ts';
import { choice, EMPTY, literal, NEVER, type Node, optional, sequence } from '../grammar.ts';
import { intersect } from '../intersect.ts';
import { upTo, without } from '../text.ts';
import { Compiler } from './compile.ts';
import { below, type Path, refuse } from './errors.ts';
import type { Schema } from './keywords.ts';
import { contentNode, type Spelling } from './strings.ts';

const CLOSE = '\n</parameter>';
const AS_TEXT: Spelling = { any: utf8(ANY), of: utf8 };

/**
 * Arguments of a call as Qwen's tags: `<parameter=name>`, the value on lines of its own, `</parameter>`. Texts stand as they are, all other
 * values as JSON.
 *
 * @throws InputError by path for what cannot be enforced
 */
export function parametersNode(schema: unknown, path: Path): Node {
  const compiler = new Compiler(schema);
  const flat = compiler.flat(schema, path);
  if (!flat) refuse(path, 'allows no arguments');
  const { properties = {}, required = [], additionalProperties = false } = flat;
  if (flat.type !== undefined && ![flat.type].flat().includes('object'))
    refuse(path, 'is no object; arguments have names');
  if (additionalProperties !== false) refuse(path, 'allows arguments that it does not list');
  if (flat.anyOf || flat.oneOf || flat.propertyNames !== undefined)
    refuse(path, 'has alternatives of arguments; list them as properties');
  const unknown = required.find((name) => !Object.hasOwn(properties, name));
  if (unknown !== undefined)
    refuse(below(path, 'required'), `asks for ${JSON.stringify(unknown)}, which is no property`);
  const nodes = Object.entries(properties).map(([name, value]) => {
    const node = parameterNode(compiler, name, value, below(path, 'properties', name));
    return required.includes(name) ? node : optional(node);
  });
  const all = nodes.length === 0 ? EMPTY : sequence(...nodes);
  compiler.checkEnds(all);
  return all;
}

function parameterNode(compiler: Compiler, name: string, value: unknown, path: Path): Node {
  if (/[>\n]/.test(name)) refuse(path, 'has a name that cannot stand in a tag');
  const schema = compiler.flat(value, path);
  if (!schema) return NEVER;
  const open = literal(`<parameter=${name}>\n`);
  return sequence(open, valueNode(compiler, schema, value, path), literal('\n'));
}

/** The value with the tag that closes it. */
function valueNode(compiler: Compiler, schema: Schema, value: unknown, path: Path): Node {
  const constants = schema.const === undefined ? schema.enum : [schema.const];
  if (constants)
    return choice(
      ...constants.map((one) => literal((typeof one === 'string' ? one : JSON.stringify(one)) + CLOSE)),
    );
  if (!mayBeText(schema)) return sequence(compiler.compile(value, path), literal(CLOSE));
  // Beside a text any other value is a text too, as it stands here.
  const isFree =
    schema.type !== 'string' || !['minLength', 'maxLength', 'pattern', 'format'].some((key) => key in schema);
  if (isFree) return upTo(CLOSE);
  const content = intersect([contentNode(schema, path, AS_TEXT, compiler.clock), without(CLOSE)], () =>
    compiler.clock(path),
  );
  if (!content) refuse(path, 'describes texts by more states than are followed');
  return sequence(content, literal(CLOSE));
}

function mayBeText({ type, anyOf, oneOf }: Schema): boolean {
  const cases = [...(anyOf ?? []), ...(oneOf ?? [])];
  if (type === undefined && cases.length > 0)
    return cases.some((one) => typeof one !== 'object' || one === null || mayBeText(one as Schema));
  return type === undefined || [type].flat().includes('string');
}
