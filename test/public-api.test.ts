/** What the package exports, and that no public type names one that is not. Read off the declarations that `tsc` emits. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');

/** A name that a module makes or brings in: the declaration's text where it is made here, else where it comes from. */
type Known = { readonly text: string } | { readonly from: string; readonly as: string };

class Declarations {
  readonly #folder: string;
  readonly #modules = new Map<string, Map<string, Known>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  module(path: string): Map<string, Known> {
    const read = this.#modules.get(path) ?? parse(readFileSync(join(this.#folder, path), 'utf8'), path);
    this.#modules.set(path, read);
    return read;
  }

  /** Where a name that a module knows is made; undefined for names of other packages. */
  home(path: string, name: string): { path: string; name: string; text: string } | undefined {
    const known = this.module(path).get(name);
    if (!known) return undefined;
    return 'text' in known ? { path, name, text: known.text } : this.home(known.from, known.as);
  }
}

/** The names of one module, but for members that say `@internal`. Declarations begin at the margin, and what belongs to them is indented or closes at the margin. */
function parse(source: string, path: string): Map<string, Known> {
  const known = new Map<string, Known>();
  const shown = source.replaceAll(/\/\*(?:(?!\*\/)[\s\S])*@internal\s*\*\/[^;]*;/g, '');
  const code = shown.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '');
  for (const statement of code.split(/\n(?=[a-z])/)) {
    const list = /^(?:import|export)(?: type)? \{([^}]*)\} from ["'](\.[^"']+)["']/.exec(statement);
    const from = list?.[2]?.replace(/\.(ts|js)$/, '.d.ts');
    for (const entry of list?.[1]?.split(',') ?? []) {
      const [name, alias = name] = entry
        .trim()
        .replace(/^type /, '')
        .split(' as ');
      if (name && alias && from) known.set(alias, { from: posix.join(posix.dirname(path), from), as: name });
    }
    const made =
      /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|const|function) ([\w$]+)/.exec(
        statement,
      );
    if (made?.[1]) known.set(made[1], { text: (textOf(known.get(made[1])) ?? '') + statement });
  }
  return known;
}

function textOf(known: Known | undefined): string | undefined {
  return known && 'text' in known ? known.text : undefined;
}

/** A declaration without what users cannot reach: protected members, constructors of what only the library makes, and interfaces met. */
function reachable(text: string): string {
  return text
    .replaceAll(/^ {4}(?:protected |constructor\()[^;]*;$/gm, '')
    .replace(/ implements [^{]*/, '')
    .replaceAll(/"[^"]*"|'[^']*'/g, '');
}

describe('the public surface', () => {
  let folder: string;
  let declarations: Declarations;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'switchyard-api-'));
    const options = ['--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--outDir', folder];
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const run = spawnSync(process.execPath, [
      tsc,
      '-p',
      join(root, 'configs/tsconfig.build.json'),
      ...options,
    ]);
    expect(run.status, String(run.stdout)).toBe(0);
    // Libraries that declarations name are looked for beside them.
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    declarations = new Declarations(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const exported = () => [...declarations.module('index.d.ts').keys()];
  const isPublic = ({ path, name }: { path: string; name: string }) =>
    exported().some((one) => {
      const home = declarations.home('index.d.ts', one);
      return home?.path === path && home.name === name;
    });

  it('is what this list says', () => {
    expect(exported().sort()).toMatchInlineSnapshot(`
      [
        "AbortError",
        "ActivationQuantization",
        "AnswerOptions",
        "Attribute",
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForImageTextToText",
        "AutoProcessor",
        "AutoTokenizer",
        "BaseModel",
        "BaseModelOutput",
        "BuiltInBackend",
        "Cache",
        "CausalLM",
        "CausalLMGenerateOptions",
        "CausalLMOutput",
        "Chat",
        "ChatInput",
        "ChatMessage",
        "ChatOptions",
        "ChatReply",
        "ChatStream",
        "ChatTemplateOptions",
        "CheckpointError",
        "CompileMode",
        "CompileOptions",
        "ConfigError",
        "ConfigOverride",
        "ConstraintFactory",
        "ContentPart",
        "DEMO_MODEL",
        "DType",
        "DecodeOptions",
        "DecodingStreamer",
        "Detokenizer",
        "Device",
        "EncodeOptions",
        "EngineError",
        "ErrorCode",
        "ExecutionStats",
        "ExpertsBackend",
        "ExpertsContext",
        "ExpertsError",
        "ExpertsImplementation",
        "ExpertsInputs",
        "ExpertsInterface",
        "ExpertsName",
        "ExpertsRegistry",
        "ExpertsWeights",
        "FinishReason",
        "FloatAttribute",
        "ForwardInputs",
        "GenerateOptions",
        "GenerateOutput",
        "GenerateStats",
        "GenerationAbortError",
        "GenerationParameters",
        "GenerationStream",
        "GenerativeModel",
        "Graph",
        "Grid",
        "HubError",
        "HubOptions",
        "ImageConfig",
        "ImageInput",
        "ImageLimits",
        "ImageLoadOptions",
        "ImageTextForwardInputs",
        "ImageTextGenerateOptions",
        "ImageTextToText",
        "InputError",
        "Intermediates",
        "LoadOptions",
        "LogitsProcessor",
        "MeasureOptions",
        "ModelSource",
        "NOT_ROUTED",
        "OneOrMore",
        "OpOptions",
        "ParseResponseOptions",
        "ParsedResponse",
        "PartialOutput",
        "PatchRule",
        "PinnedExperts",
        "PinnedExpertsStats",
        "PixelBounds",
        "PixelValues",
        "PreTrainedModel",
        "PrefixAllowedTokensFn",
        "PrefixCacheOptions",
        "PretrainedConfig",
        "Processor",
        "ProcessorCall",
        "ProcessorChatOptions",
        "ProcessorConfig",
        "ProcessorInputs",
        "ProcessorLoadOptions",
        "ProcessorMessage",
        "ProcessorOutput",
        "ProcessorTokenizer",
        "ProgressEvent",
        "PromptLogprobsInputs",
        "PromptOptions",
        "Quantization",
        "QuantizationSpec",
        "RawPixels",
        "RawSound",
        "RecordRoutingOptions",
        "RecordableBackend",
        "ReplyOptions",
        "RepoFile",
        "RepoOptions",
        "ResidencyStats",
        "ResolvedRepo",
        "ResponseDelta",
        "ResponseFormat",
        "ResponseParser",
        "RoutedTokens",
        "RoutingFile",
        "RoutingFileHeader",
        "RoutingHeader",
        "RoutingListener",
        "RoutingOptions",
        "RoutingRecord",
        "RoutingRecorder",
        "RoutingSource",
        "RowRouting",
        "SaveQuantizedOptions",
        "SavedCheckpoint",
        "SoundConfig",
        "SoundInput",
        "SoundValues",
        "StoppingCriterion",
        "Streamer",
        "SwitchyardError",
        "Tensor",
        "TensorConstructor",
        "TensorData",
        "TextIteratorStreamer",
        "TextStreamer",
        "TextStreamerOptions",
        "TokenConstraint",
        "TokenLogprob",
        "TokenLogprobs",
        "TokenRows",
        "TokenizeOptions",
        "TokenizedBatch",
        "Tokenizer",
        "TokenizerCall",
        "TokenizerError",
        "ToolCall",
        "ToolChoice",
        "Tuning",
        "TuningEntry",
        "TuningProgress",
        "TuningTable",
        "Value",
        "VideoConfig",
        "VideoInput",
        "VisualInputs",
        "WeightDType",
        "WeightFormat",
        "WeightPages",
        "float",
        "parseQuantization",
        "readRoutingFile",
        "recordRouting",
        "resolveRepo",
        "saveQuantized",
      ]
    `);
  });

  it('is checked without a word, also with libraries and in a program without a browser', () => {
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(
      join(folder, 'use.ts'),
      `import { AutoModelForCausalLM, DEMO_MODEL, Tensor } from './index.js';
      await using model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, { expertsImplementation: 'eager' });
      for await (const text of model.stream({ prompt: 'x', maxNewTokens: 3 })) text.trim();
      const { text } = await (await model.chat({ system: 'x' })).send('y');
      const tensor: Tensor = new Tensor('float32', new Float32Array(2), [2]);
      export const [first, second] = [text.length, tensor.dims];
      // @ts-expect-error: there is no such option.
      await model.generate({ prompts: 'x' });`,
    );
    const options = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', 'false', '--types', 'node'];
    const target = ['--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--module', 'nodenext'];
    const roots = ['--typeRoots', join(root, 'node_modules/@types')];
    const args = [...options, ...target, ...roots, join(folder, 'use.ts')];
    const run = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...args]);
    expect(String(run.stdout)).toBe('');
  });

  it('names no type that is not public itself', () => {
    const hidden = exported().flatMap((one) => {
      const home = declarations.home('index.d.ts', one);
      if (!home) return [];
      const words = new Set(reachable(home.text).match(/[A-Za-z_$][\w$]*/g));
      const named = [...words]
        .filter((word) => word !== home.name)
        .map((word) => declarations.home(home.path, word));
      // A constant stands only for the type that is made of it.
      return named
        .filter((type) => type && !isPublic(type) && !/^(?:export )?declare const/.test(type.text))
        .map((type) => `${type?.name}, by ${one}`);
    });
    expect(hidden.sort()).toEqual([]);
  });

  it('keeps internals of graphs and models to itself', () => {
    const internals = exported().flatMap((one) =>
      /\b(shared|streamed|boundInputs|parsed|architecture)\b/.test(
        reachable(declarations.home('index.d.ts', one)?.text ?? ''),
      )
        ? [one]
        : [],
    );
    expect(internals).toEqual([]);
  });
});
