import { show, TokenizerError } from '../errors.ts';
import type { AddedToken } from './bpe/added-tokens.ts';
import { LARGEST_ID, type Vocabulary } from './bpe/vocabulary.ts';
import { type NamedToken, ROLES, type TokenFields, type TokenizerConfig } from './tokenizer-config.ts';

/** Special tokens as settings name them. */
export interface NamedTokens {
  /** By role: `bos_token`, …, and any other field that ends in `_token`. */
  readonly roles: ReadonlyMap<string, NamedToken>;
  readonly further: readonly NamedToken[];
}

type Settings = Pick<TokenizerConfig, 'additional_special_tokens' | 'extra_special_tokens'>;

/** Source: transformers `PreTrainedTokenizerBase._from_pretrained`. */
export function namedTokens(settings: Settings): NamedTokens {
  const roles = new Map<string, NamedToken>();
  const fields = settings as Record<string, unknown>;
  for (const role of ROLES) {
    const token = fields[`${role}_token`] as NamedToken | null | undefined;
    if (isToken(token)) roles.set(`${role}_token`, token);
  }
  for (const [field, value] of Object.entries(fields)) {
    if (field.endsWith('_token') && isToken(value) && !roles.has(field)) roles.set(field, value);
  }
  const extra = settings.extra_special_tokens ?? [];
  if (!Array.isArray(extra))
    for (const [role, token] of Object.entries(extra)) if (isToken(token)) roles.set(role, token);
  const listed = Array.isArray(extra) ? extra.filter(isToken) : [];
  return {
    roles,
    further: listed.length > 0 ? listed : (settings.additional_special_tokens ?? []).filter(isToken),
  };
}

export function tokenText(token: NamedToken): string {
  return typeof token === 'string' ? token : token.content;
}

function isToken(value: unknown): value is NamedToken {
  if (typeof value === 'string') return value !== '';
  return typeof value === 'object' && value !== null && typeof (value as TokenFields).content === 'string';
}

/**
 * The added tokens of a tokenizer: those of tokenizer.json; those that settings list by id, whose flags count where the
 * two differ; and special tokens that no file gives an id, numbered behind all others. All are put into the vocabulary.
 *
 * Source: transformers `TokenizersBackend.__init__`.
 *
 * @param plainNames takes all flags but `special` from tokens that settings name
 * @param file names the tokenizer in messages
 * @throws {TokenizerError} an id belongs to another token.
 */
export function assembleAddedTokens(
  vocabulary: Vocabulary,
  own: readonly AddedToken[],
  listed: readonly AddedToken[],
  named: NamedTokens,
  plainNames: boolean,
  file: string,
): AddedToken[] {
  const tokens = new Map<string, AddedToken>();
  const names = new Set([...named.roles.values()].map(tokenText));
  for (const token of own) tokens.set(token.content, place(token, vocabulary, file));
  for (const token of listed) {
    const known = tokens.get(token.content);
    if (known !== undefined && sameFlags(known, token)) continue;
    const isSpecial = token.special || names.has(token.content);
    tokens.set(token.content, place({ ...token, special: isSpecial }, vocabulary, file));
  }
  let next = 0;
  for (const token of tokens.values()) next = Math.max(next, token.id + 1);
  for (const token of [...named.roles.values(), ...named.further]) {
    const content = tokenText(token);
    const known = tokens.get(content);
    if (known !== undefined && !plainNames) continue;
    const fields = plainNames || typeof token === 'string' ? PLAIN : { ...PLAIN, ...token };
    next = Math.max(next, vocabulary.size);
    const id = known?.id ?? vocabulary.id(content) ?? next;
    tokens.set(content, place({ ...fields, content, id, special: true }, vocabulary, file));
  }
  return [...tokens.values()].sort((a, b) => a.id - b.id);
}

const PLAIN = { single_word: false, lstrip: false, rstrip: false, normalized: false } as const;

function sameFlags(a: AddedToken, b: AddedToken): boolean {
  return (['special', 'normalized', 'single_word', 'lstrip', 'rstrip'] as const).every(
    (flag) => a[flag] === b[flag],
  );
}

/** Puts a token into the vocabulary; one that is there already keeps its id. */
function place(token: AddedToken, vocabulary: Vocabulary, file: string): AddedToken {
  const known = vocabulary.id(token.content);
  if (known !== undefined) return { ...token, id: known };
  const holder = vocabulary.token(token.id);
  if (holder !== undefined) {
    throw new TokenizerError(
      `${file}: the added token ${show(token.content)} has the id ${token.id}, which belongs to ${show(holder)}.`,
    );
  }
  if (token.id > LARGEST_ID)
    throw new TokenizerError(`${file} has more tokens than ids up to ${LARGEST_ID}.`);
  vocabulary.add(token.content, token.id, file);
  return token;
}
