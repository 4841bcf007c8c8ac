import type { SplitName } from './format.ts';

/** Scales of activations and of the cache: nothing that weights need. */
const OF_ACTIVATIONS = [
  ...['input_scale', 'input_global_scale', 'input_zero_point', 'activation_scale', 'output_scale'],
  ...['k_scale', 'v_scale', 'q_scale', 'prob_output_scale', 'weight_format_version'],
];

/** A splitter for parts that follow the module's name after a dot, such as `qweight`. */
export function afterDot(parts: readonly string[]): (name: string) => SplitName | undefined {
  const known = new Set(parts.map((part) => `.${part}`));
  const ignored = new Set(OF_ACTIVATIONS.map((part) => `.${part}`));
  return (name) => {
    // Parts may have dots themselves: the longest that is known counts.
    for (let dot = name.indexOf('.'); dot > 0; dot = name.indexOf('.', dot + 1)) {
      const part = name.slice(dot);
      if (known.has(part)) return { module: name.slice(0, dot), part };
      if (ignored.has(part)) return { module: name.slice(0, dot), part, ignored: true };
    }
    return undefined;
  };
}
