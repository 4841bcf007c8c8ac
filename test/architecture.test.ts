import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ELEMENT_TYPES } from '../src/dtype.ts';
import { SWITCHYARD_DOMAIN } from '../src/graph/graph.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Paths below `folder`, with forward slashes, of files that end in one of `endings`. */
function sources(folder: string, endings: readonly string[], skip = /^$/): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) =>
      posix.join(
        ...join(entry.parentPath, entry.name)
          .slice(root.length + 1)
          .split(/[\\/]/),
      ),
    )
    .filter((path) => !skip.test(path))
    .sort();
}
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** What each folder of `src/` may import from its siblings, besides itself and the files listed under `anywhere`. */
const TYPESCRIPT: Record<string, readonly string[]> = {
  cli: [
    'index.ts',
    'auto',
    'batch',
    'bench',
    'certify',
    'doctor',
    'fit',
    'hub',
    'media',
    'model',
    'models',
    'net',
    'quantize',
    'routing',
    'runtime',
    'safetensors',
    'server',
  ],
  bench: ['generation', 'models', 'runtime'],
  certify: [],
  server: ['index.ts', 'net', 'runtime/package-root.ts'],
  'ai-sdk': ['index.ts', 'server'],
  batch: ['server'],
  langchain: ['index.ts', 'server'],
  auto: [
    'engine',
    'experts',
    'fit',
    'generation',
    'graph',
    'hub',
    'model',
    'models',
    'processor',
    'quantize',
    'routing',
    'runtime',
    'safetensors',
    'tokenizer',
    'weights',
  ],
  model: ['engine', 'experts', 'generation', 'graph', 'models', 'routing', 'runtime', 'tokenizer'],
  engine: ['experts', 'graph', 'models', 'nn', 'routing', 'runtime', 'safetensors', 'weights'],
  doctor: ['runtime'],
  fit: ['models', 'quantize', 'runtime'],
  quantize: ['graph', 'models', 'nn', 'runtime', 'safetensors', 'weights'],
  models: ['experts', 'graph', 'nn'],
  nn: ['experts', 'graph'],
  processor: ['media', 'models'],
  weights: ['graph'],
  experts: ['graph'],
  graph: [],
  generation: ['structured', 'tokenizer'],
  structured: [],
  hub: ['net'],
  media: ['net'],
  net: [],
  routing: [],
  runtime: ['safetensors'],
  safetensors: [],
  tokenizer: [],
};
const anywhere = [
  'dtype.ts',
  'errors.ts',
  'files.ts',
  'json.ts',
  'json-cursor.ts',
  'options.ts',
  'partial-paths.ts',
  'units.ts',
];
/** Contracts that cross borders which code may not: each file of types, and the folders that may name it besides those above. */
const CONTRACTS: Record<string, readonly string[]> = {
  'generation/types.ts': ['engine'],
  'hub/types.ts': ['cli', 'processor', 'safetensors', 'tokenizer'],
  'media/types.ts': ['engine', 'model', 'models'],
  'safetensors/types.ts': ['certify', 'weights'],
  'weights/quantized-tensor.ts': ['runtime'],
};

/**
 * Order inside folders, where a file or shelf has one: what it may import of its own folder. A path ends in `/` where it stands for a
 * shelf. Files not listed are free, but for circles.
 */
const INSIDE: Record<string, readonly string[]> = {
  'engine/tuning/measure.ts': ['engine/tuning/policy.ts'],
  'engine/tuning/pass-times.ts': ['engine/tuning/measure.ts', 'engine/tuning/policy.ts'],
  'engine/tuning/store.ts': ['engine/tuning/policy.ts'],
  'engine/cache/': ['engine/cache/'],
  'generation/candidates.ts': ['generation/shortlist.ts'],
  'generation/shortlist.ts': [],
  'generation/score-edits.ts': ['generation/shortlist.ts'],
  'generation/types.ts': [],
  'graph/weight-source.ts': [],
  'hub/types.ts': [],
  'hub/transfer/': [
    'hub/transfer/',
    'hub/cache/foreign-lock.ts',
    'hub/cache/layout.ts',
    'hub/cache/lock.ts',
    'hub/environment.ts',
    'hub/repo-spelling.ts',
    'hub/types.ts',
  ],
  'graph/graph-builder.ts': ['graph/parts.ts'],
  'graph/parts.ts': [],
  'models/architecture.ts': ['models/io.ts'],
  'models/config.ts': [],
  'models/io.ts': [],
  'models/pass.ts': ['models/io.ts'],
  'models/rope-config.ts': ['models/config.ts'],
  'models/matrix-targets.ts': ['models/architecture.ts'],
  'models/tensor-use.ts': ['models/architecture.ts', 'models/matrix-targets.ts'],
  'models/text-config.ts': ['models/config.ts', 'models/rope-config.ts'],
  'models/text-model.ts': ['models/architecture.ts', 'models/tensor-use.ts', 'models/text-config.ts'],
  'nn/cache-spec.ts': [],
  'nn/scope.ts': [],
  'runtime/requirements/': ['runtime/requirements/', 'runtime/engine-status.ts', 'runtime/native-files.ts'],
  'runtime/ort.ts': ['runtime/package-root.ts'],
  'structured/regex/': ['structured/regex/', 'structured/characters.ts', 'structured/grammar.ts'],
  'tokenizer/bpe/': ['tokenizer/bpe/'],
  'tokenizer/jinja/': ['tokenizer/jinja/'],
  'tokenizer/response/': ['tokenizer/response/'],
};
/** Folders that others know by these files alone, but for those that make a whole of the parts. */
const FRONTS: Record<string, readonly string[]> = {
  models: ['models/architecture.ts', 'models/io.ts', 'models/matrix-targets.ts'],
};
const ASSEMBLERS = ['src/auto/', 'src/index.ts'];

/** Files that compute from what they are given: all that they may import besides errors. */
const PURE: Record<string, readonly string[]> = {
  'engine/scheduler.ts': [],
  'engine/tuning/policy.ts': ['experts/moe-op.ts'],
  'generation/random.ts': [],
  'structured/automaton.ts': ['structured/grammar.ts'],
};

/** Names of inputs and outputs that name something else as well: a key of config.json, a variant of a graph. */
const OTHER_MEANING = ['keys_values', 'experts_implementation', 'last_hidden_state'];

/** Packages that only one part of the code may know. */
const PACKAGES: Record<string, string> = {
  '@ai-sdk/provider': 'src/ai-sdk/',
  '@hono/node-server': 'src/server/',
  '@huggingface/hub': 'src/hub/',
  '@langchain/core': 'src/langchain/',
  bullmq: 'src/batch/queue/',
  commander: 'src/cli/',
  hono: 'src/server/',
  'http-proxy-agent': 'src/net/',
  'https-proxy-agent': 'src/net/',
  'oniguruma-to-es': 'src/tokenizer/bpe/',
  ioredis: 'src/batch/queue/',
  'onnxruntime-common': 'src/runtime/ort.ts',
  'onnxruntime-node': 'src/runtime/ort.ts',
  'prom-client': 'src/server/',
  protobufjs: 'src/graph/',
  sharp: 'src/media/',
  'socks-proxy-agent': 'src/net/',
};

function imports(path: string): string[] {
  const code = read(path);
  const statements = code.matchAll(/^\s*(?:import|export)\b[^;'"]*?\bfrom\s*(['"])([^'"]+)\1/gm);
  const bare = code.matchAll(/^\s*import\s*(['"])([^'"]+)\1/gm);
  const calls = code.matchAll(/(?<![.\w])(?:import|require|resolve)\(\s*(['"])([^'"]+)\1\s*\)/g);
  return [...statements, ...bare, ...calls].map((match) => match[2] as string);
}

/** A file without its comments. */
function code(path: string): string {
  return read(path)
    .replaceAll(/\/\*[\s\S]*?\*\//g, '')
    .replaceAll(/^\s*\/\/.*$/gm, '');
}

/** Files of `src/` that a file imports, from `src/` on. */
function targets(path: string): string[] {
  return imports(path)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => posix.relative('src', posix.join(posix.dirname(path), specifier)));
}

/** One circle of imports for each knot of files that need each other. */
function findCircles(files: readonly string[], importsOf: (file: string) => readonly string[]): string[] {
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) circles.push([...path.slice(start), file].join(' → '));
    if (start >= 0 || done.has(file)) return;
    for (const next of importsOf(file)) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  return circles;
}

describe('TypeScript', () => {
  const files = sources('src', ['.ts']);

  test.each(files.filter((path) => path.split('/').length > 2))(
    '%s imports only what lies below it',
    (path) => {
      const folder = path.split('/')[1] as string;
      const allowed = TYPESCRIPT[folder];
      expect(allowed, `src/${folder} is listed in this test and in ARCHITECTURE.md`).toBeDefined();
      const forbidden = targets(path).filter((target) => {
        const owner = target.split('/')[0] as string;
        const isFree = owner === folder || anywhere.includes(target) || CONTRACTS[target]?.includes(folder);
        return !isFree && !allowed?.includes(owner) && !allowed?.includes(target);
      });
      expect(forbidden).toEqual([]);
    },
  );

  test.each(anywhere)('%s, which any folder may use, uses none', (path) => {
    expect(targets(`src/${path}`).filter((target) => !anywhere.includes(target))).toEqual([]);
  });

  test('files beside the folders are listed as usable anywhere, but for the entry', () => {
    const beside = files.filter((path) => path.split('/').length === 2).map((path) => posix.basename(path));
    expect(beside.filter((path) => path !== 'index.ts')).toEqual(anywhere.toSorted());
  });

  test.each(files)('%s leaves each package to the part it belongs to', (path) => {
    const misplaced = imports(path).filter((specifier) =>
      Object.entries(PACKAGES).some(([name, home]) => isOf(specifier, name) && !path.startsWith(home)),
    );
    expect(misplaced).toEqual([]);
  });

  test.each(files)('%s imports no package that package.json does not list', (path) => {
    const { dependencies, peerDependencies } = JSON.parse(read('package.json')) as Record<string, object>;
    // onnxruntime-common belongs to onnxruntime-node, whose copy of it is the one to use.
    const known = [...Object.keys({ ...dependencies, ...peerDependencies }), 'onnxruntime-common'];
    const foreign = imports(path).filter(
      (specifier) => !/^(\.|node:)/.test(specifier) && !known.some((name) => isOf(specifier, name)),
    );
    expect(foreign).toEqual([]);
  });

  test.each(Object.keys(CONTRACTS))('%s holds no code', (path) => {
    expect(read(`src/${path}`)).not.toMatch(/\b(function|class)\b(?=[^*\n]*\{)|=>\s*\{/);
  });

  test.each(Object.entries(CONTRACTS))('%s crosses no border that it need not', (contract, folders) => {
    const users = files.filter((path) => targets(path).includes(contract)).map((path) => path.split('/')[1]);
    expect(folders.filter((folder) => !users.includes(folder))).toEqual([]);
  });

  test.each(Object.entries(INSIDE))('%s keeps the order of its folder', (place, allowed) => {
    const folder = place.split('/')[0];
    const isAt = (target: string, spot: string) =>
      spot.endsWith('/') ? target.startsWith(spot) : target === spot;
    const own = files.filter((path) => isAt(path.slice('src/'.length), place));
    expect(own, `${place} exists`).not.toEqual([]);
    const forbidden = own
      .flatMap((path) => targets(path))
      .filter((target) => target.startsWith(`${folder}/`) && !allowed.some((spot) => isAt(target, spot)));
    expect(forbidden).toEqual([]);
  });

  test.each(Object.entries(FRONTS))('%s is known to others by its contract', (folder, fronts) => {
    const outside = files.filter(
      (path) => !path.startsWith(`src/${folder}/`) && !ASSEMBLERS.some((place) => path.startsWith(place)),
    );
    const behind = outside.flatMap((path) =>
      targets(path)
        .filter((target) => target.startsWith(`${folder}/`) && !fronts.includes(target))
        .map((target) => `${path} → ${target}`),
    );
    expect(behind).toEqual([]);
  });

  test.each(Object.entries(PURE))('%s knows nothing else', (path, allowed) => {
    const outside = imports(`src/${path}`).filter((specifier) => !specifier.startsWith('.'));
    const foreign = targets(`src/${path}`).filter(
      (target) => !allowed.includes(target) && target !== 'errors.ts',
    );
    expect([...outside, ...foreign]).toEqual([]);
  });

  test('no file imports itself by way of others, not even for types', () => {
    const circles = findCircles(
      files.map((path) => path.slice('src/'.length)),
      (path) => targets(`src/${path}`),
    );
    expect(circles).toEqual([]);
  });

  test('finds circles', () => {
    const graph: Record<string, string[]> = { a: ['b'], b: ['c', 'd'], c: ['a'], d: ['d'], e: ['a'] };
    expect(findCircles(Object.keys(graph), (file) => graph[file] ?? [])).toEqual(['a → b → c → a', 'd → d']);
  });

  test('what files export besides types is imported somewhere', () => {
    const everywhere = ['src', 'test', 'scripts'].flatMap((folder) =>
      sources(folder, ['.ts', '.mts', '.mjs', '.js'], /\/fixtures\//),
    );
    const named = new Set<string>();
    const whole = new Set<string>();
    for (const path of everywhere) {
      const at = (specifier: string) => posix.join(posix.dirname(path), specifier);
      for (const [, names = '', from = ''] of read(path).matchAll(/\{([^{}]*)\}\s*from\s*'(\.[^']+)'/g))
        for (const name of names.split(',')) named.add(`${at(from)} ${name.trim().split(' ')[0]}`);
      for (const [, from = ''] of read(path).matchAll(/(?:\*\s*as\s+\w+\s+from\s*|import\()'(\.[^']+)'/g))
        whole.add(at(from));
    }
    const exported = files
      .filter((path) => !whole.has(path))
      .flatMap((path) =>
        [...read(path).matchAll(/^export (?:async |abstract )*(?:function\*?|const|class|let) (\w+)/gm)].map(
          ([, name]) => `${path} ${name}`,
        ),
      );
    expect(exported.length).toBeGreaterThan(500);
    expect(exported.filter((name) => !named.has(name))).toEqual([]);
  });

  test('inputs and outputs of graphs are spelled in models/io.ts only', () => {
    const names = [...read('src/models/io.ts').matchAll(/'([a-z]+(?:_[a-z]+)+)'|`([a-z_]+)\.\$\{/g)].map(
      (match) => (match[1] ?? match[2]) as string,
    );
    expect(names).toEqual(expect.arrayContaining(['input_ids', 'past_key_values', 'candidate_ids']));
    const spelled = new RegExp(
      `['"\`](?:${names.filter((name) => !OTHER_MEANING.includes(name)).join('|')})\\b`,
    );
    const others = files.filter((path) => path !== 'src/models/io.ts' && spelled.test(read(path)));
    expect(others).toEqual([]);
  });

  test('names of tensors are known in models/ only', () => {
    const spelled =
      /(?:['"`/]|\\?\.)(?:embed_tokens|lm_head|self_attn|rotary_emb)|['"`/](?:mlp|visual|experts)\\?\./;
    const others = files.filter((path) => !path.startsWith('src/models/') && spelled.test(code(path)));
    expect(others).toEqual([]);
  });

  test('finds the imports it judges', () => {
    expect(imports('src/experts/registry.ts')).toEqual(
      expect.arrayContaining(['../errors.ts', './moe-op.ts', './interface.ts']),
    );
  });
});

function isOf(specifier: string, packageName: string): boolean {
  return specifier === packageName || specifier.startsWith(`${packageName}/`);
}

/** What each folder of `kernels/` may include, besides itself. */
const NATIVE: Record<string, readonly string[]> = {
  binding: ['engine', 'ort', 'weights', 'platform', 'common'],
  engine: ['ops', 'ort', 'cpu', 'weights', 'platform', 'common'],
  // The library of one kind of device: what it must do stands in engine/device.h.
  devices: ['engine', 'ops', 'ort', 'cuda', 'weights', 'common'],
  ops: ['ort', 'cpu', 'weights', 'common'],
  ort: ['platform', 'common'],
  cpu: ['platform', 'common'],
  cuda: ['common'],
  weights: ['platform', 'common'],
  platform: [],
  common: [],
};

describe('native code', () => {
  const files = sources('kernels', ['.h', '.cc', '.cu', '.cuh'], /^kernels\/build\//);
  const includes = (path: string) =>
    [...read(path).matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm)].map((match) => ({
      system: match[1] === '<',
      header: match[2] as string,
    }));

  test.each(files)('%s includes only what lies below it', (path) => {
    const folder = path.split('/')[1] as string;
    const allowed = NATIVE[folder];
    expect(allowed, `kernels/${folder} is listed in this test and in ARCHITECTURE.md`).toBeDefined();
    const forbidden = includes(path).filter(({ system, header }) => {
      // Headers are named from the file that includes them.
      const target = posix.join(posix.dirname(path), header).slice('kernels/'.length);
      const owner = target.includes('/') ? (target.split('/')[0] as string) : folder;
      return !system && owner !== folder && !allowed?.includes(owner);
    });
    expect(forbidden).toEqual([]);
  });

  test.each(files.filter((path) => !path.startsWith('kernels/binding/')))('%s does without N-API', (path) => {
    expect(includes(path).filter(({ header }) => /(^|\/)(napi|node_api|js_native_api)/.test(header))).toEqual(
      [],
    );
  });

  test.each(files.filter((path) => /^kernels\/(cpu|cuda|weights|common)\//.test(path)))(
    '%s does without the engine',
    (path) => {
      expect(includes(path).filter(({ header }) => /(^|\/)(ort_|onnxruntime)/.test(header))).toEqual([]);
    },
  );

  test.each(files.filter((path) => !/^kernels\/(platform\/(posix|windows)|cpu\/bench)\//.test(path)))(
    '%s leaves the operating system to platform/',
    (path) => {
      const OF_SYSTEMS = /^(dlfcn|fcntl|pthread|signal|unistd|windows)\.h$|^sys\//;
      expect(includes(path).filter(({ header }) => OF_SYSTEMS.test(header))).toEqual([]);
    },
  );

  test('knows element types by the numbers, names and sizes that TypeScript has', () => {
    const table = read('kernels/common/element_types.h');
    const numbers = new Map(
      [...table.matchAll(/^ {2}(k\w+) = (\d+),$/gm)].map(([, type, onnx]) => [type, onnx]),
    );
    const rows = [...table.matchAll(/\{(k\w+), "(\w+)", (\d+)\},/g)].map(([, type, name, bytes]) => [
      name,
      { onnx: Number(numbers.get(type)), bytes: Number(bytes) },
    ]);
    const known = Object.entries(ELEMENT_TYPES).flatMap(([name, { onnx, bytes }]) =>
      onnx === undefined ? [] : [[name, { onnx, bytes }] as const],
    );
    const { string: text, ...native } = Object.fromEntries(rows);
    expect(text).toEqual({ onnx: 8, bytes: 0 });
    expect(native).toEqual(Object.fromEntries(known));
  });

  test('defines the domain of its ops once, as TypeScript does', () => {
    const domains = files.flatMap((path) =>
      [...read(path).matchAll(/\bk\w*Domain\w*(?:\[\])?\s*(?:=|\{)\s*"([^"]*)"/g)].map((match) => match[1]),
    );
    expect(domains).toEqual([SWITCHYARD_DOMAIN]);
  });
});
