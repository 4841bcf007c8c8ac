import { TokenizerError } from '../errors.ts';
import type { Statement } from './jinja/ast.ts';
import { TemplateFault, TemplateLimit } from './jinja/budget.ts';
import { templateData } from './jinja/data.ts';
import { render } from './jinja/render.ts';
import { parseTemplate } from './jinja/statement-parser.ts';

/**
 * A chat template, rendered as Jinja 3.1 does in the environment of transformers (`utils/chat_template_utils.py`,
 * `_compile_jinja_template`): `trim_blocks`, `lstrip_blocks`, loop controls, `generation` blocks, `raise_exception`,
 * `strftime_now`, `tojson` that does not escape HTML, the immutable sandbox, and values printed as Python prints them.
 *
 * A template sees plain data and the functions above, nothing of the process. A hostile one is stopped by a `Budget`
 * that every operation pays from: at most 5,000,000 steps and 2 s, texts of at most 16 Mi characters each and 64 Mi
 * in all, lists of at most 1,000,000 items each and 2,000,000 in all (more where the conversation itself is larger).
 * Rendering is synchronous; ordinary templates take about a millisecond.
 *
 * Of Jinja, these are left out: other templates (`include`, `extends`, `import`, `self`), autoescape, the filters
 * `pprint`, `urlize` and `wordwrap`, and the function `lipsum`.
 */
export class ChatTemplate {
  readonly source: string;
  readonly #file: string;
  #program: Statement[] | undefined;

  /** @param file where the template comes from, for messages */
  constructor(source: string, file: string) {
    this.source = source;
    this.#file = file;
  }

  /**
   * Renders the template with the given variables, which must be plain data.
   *
   * @throws {InputError} a variable holds something that is not plain data.
   * @throws {TokenizerError} the template is malformed, refuses the conversation, or exceeds a bound.
   */
  render(variables: Readonly<Record<string, unknown>>): string {
    const { values, budget } = templateData(variables);
    let isParsed = this.#program !== undefined;
    try {
      this.#program ??= parseTemplate(this.source);
      isParsed = true;
      return render(this.#program, values, budget);
    } catch (error) {
      const reason = reasonOf(error, isParsed);
      if (reason === undefined) throw error;
      throw new TokenizerError(
        `The chat template of ${this.#file} cannot render this conversation: ${reason}`,
        { cause: error },
      );
    }
  }
}

const REMEDY = 'Use the chat template that the model was published with.';

/** What went wrong, and what helps where the conversation is not at fault; undefined for what no template does. */
function reasonOf(error: unknown, isParsed: boolean): string | undefined {
  if (error instanceof RangeError && error.message.includes('call stack')) {
    return `it is nested too deeply. ${REMEDY}`;
  }
  if (!(error instanceof TemplateFault)) return undefined;
  const reason = /[.!?]$/.test(error.message) ? error.message : `${error.message}.`;
  return error instanceof TemplateLimit || !isParsed ? `${reason} ${REMEDY}` : reason;
}
