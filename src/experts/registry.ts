import { didYouMean, ExpertsError, expected, show } from '../errors.ts';
import type { ExpertsBackend } from './interface.ts';
import { AUTO, IMPLEMENTATIONS, moeExperts } from './moe-op.ts';

/** The experts backends of this process, by name. Counterpart of transformers' `ExpertsInterface`. */
export class ExpertsRegistry {
  readonly #builtIn: ReadonlyMap<string, ExpertsBackend>;
  readonly #registered = new Map<string, ExpertsBackend>();

  constructor(builtIn: Readonly<Record<string, ExpertsBackend>>) {
    this.#builtIn = new Map(Object.entries(builtIn));
  }

  /**
   * Makes a backend selectable under `name`. Registering a name again replaces its backend for graphs built from then on.
   *
   * @throws ExpertsError for a name that is malformed or built in, or an object that is not a backend
   */
  register(name: string, backend: ExpertsBackend): void {
    checkName(name);
    if (this.#builtIn.has(name)) {
      throw new ExpertsError(
        `The experts backend ${show(name)} is built in and cannot be replaced. Choose another name`,
      );
    }
    checkBackend(name, backend);
    this.#registered.set(name, backend);
  }

  /**
   * Forgets a registered backend. Models that use it keep it until they are set to another.
   *
   * @returns whether there was one
   * @throws ExpertsError for a built-in name
   */
  unregister(name: string): boolean {
    if (this.#builtIn.has(name)) {
      throw new ExpertsError(`The experts backend ${show(name)} is built in and cannot be removed`);
    }
    return this.#registered.delete(name);
  }

  /** Every backend by name, sorted; `auto`, which chooses among them, is none. */
  names(): string[] {
    return [...this.#builtIn.keys(), ...this.#registered.keys()].filter((name) => name !== AUTO).sort();
  }

  /** What can be asked for: every backend, and `auto`. */
  choices(): string[] {
    return [...this.names(), AUTO];
  }

  has(name: string): boolean {
    return this.#builtIn.has(name) || this.#registered.has(name);
  }

  /** Whether the backend ships with the package: those share one op and switch without a new session. */
  isBuiltIn(name: string): boolean {
    return this.#builtIn.has(name);
  }

  /** @throws ExpertsError that lists the known names and suggests the nearest */
  get(name: string): ExpertsBackend {
    const backend = this.#builtIn.get(name) ?? this.#registered.get(name);
    if (!backend) throw new ExpertsError(unknownBackend(name, this.names()));
    return backend;
  }
}

/** The message for a name that no backend has. `place` says where it was found, such as ` for "text_config"`. */
export function unknownBackend(name: string, names: readonly string[], place = ''): string {
  return `Unknown experts implementation ${show(name)}${place}. Known are: ${names.join(', ')}${didYouMean(name, names)}`;
}

function checkName(name: unknown): void {
  if (typeof name !== 'string' || !/^[^\s=,]+$/.test(name)) {
    // The command line separates `key=name` pairs with commas.
    throw new ExpertsError(
      expected('The name of an experts backend', name, 'a text without spaces, "=" and ","'),
    );
  }
}

function checkBackend(name: string, backend: unknown): void {
  for (const method of ['supports', 'emit'] as const) {
    const found = (backend as Partial<ExpertsBackend> | null | undefined)?.[method];
    if (typeof found !== 'function') {
      throw new ExpertsError(
        `${expected(`${method} of the experts backend ${show(name)}`, found, 'a function')}. ` +
          'A backend is { supports(context): true | string, emit(graph, inputs): Value }',
      );
    }
  }
}

/** The registry that models resolve `expertsImplementation` against. */
export const ExpertsInterface = new ExpertsRegistry(
  Object.fromEntries([...IMPLEMENTATIONS, AUTO].map((name) => [name, moeExperts])),
);
