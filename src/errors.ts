/**
 * Every failure Switchyard reports is a `SwitchyardError`. A message says what failed, where (file, tensor, field),
 * what was found, and what to do about it.
 */
export class SwitchyardError extends Error {
  override name = 'SwitchyardError';
}

/** config.json, generation_config.json or another JSON file has a field that is missing, malformed or unsupported. */
export class ConfigError extends SwitchyardError {
  override name = 'ConfigError';
}

/** A weights file is damaged, or the tensors in it are not the ones the architecture needs. */
export class CheckpointError extends SwitchyardError {
  override name = 'CheckpointError';
}

/** A repo or file cannot be found, reached, downloaded or read from the cache. */
export class HubError extends SwitchyardError {
  override name = 'HubError';
}

/** An experts implementation is unknown, malformed, or cannot serve the model. */
export class ExpertsError extends SwitchyardError {
  override name = 'ExpertsError';
}

/** A tokenizer file or chat template is damaged, unsupported, or refuses the conversation. */
export class TokenizerError extends SwitchyardError {
  override name = 'TokenizerError';
}

/** An argument of a call is out of range or of the wrong type. */
export class InputError extends SwitchyardError {
  override name = 'InputError';
}

/** The native engine is missing, does not fit this machine, or failed during a run. */
export class EngineError extends SwitchyardError {
  override name = 'EngineError';
}

/** A call was ended through its `AbortSignal`. `cause` is the signal's reason. */
export class AbortError extends SwitchyardError {
  override name = 'AbortError';
}

/** Renders a value for an error message: JSON, at most 80 characters. */
export function show(value: unknown): string {
  let text: string;
  if (typeof value === 'function') text = `function ${value.name || '(anonymous)'}`;
  else if (typeof value === 'bigint') text = `${value}n`;
  else if (value === undefined) text = 'undefined';
  else if (typeof value === 'number') text = String(value);
  else {
    try {
      text = JSON.stringify(value) ?? String(value);
    } catch {
      text = Object.prototype.toString.call(value);
    }
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** The candidate closest to `name` by edit distance, or undefined when none is close enough to be a likely typo. */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[j] as number) + 1, (current[j - 1] as number) + 1));
    }
    previous = current;
  }
  return previous[b.length] as number;
}
