import { readFile, writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig } from '../../src/auto/load-config.ts';
import { CheckpointError, SwitchyardError } from '../../src/errors.ts';
import { FolderRepo } from '../../src/hub/repo/folder-repo.ts';
import { parseHeader } from '../../src/safetensors/header.ts';
import { parseShardIndex } from '../../src/safetensors/index-file.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { below, mutateText, type Random } from '../helpers/mutate.ts';
import { seededRandom, temporaryFolder } from '../hub/helpers.ts';
import { BYTES, type Entry, fileOf, layOut } from './build.ts';

/** Whether an object in a valid JSON text names a key twice (or only the one that is member `within`): by recursive descent. */
function hasRepeatedKey(text: string, within?: string): boolean {
  let at = 0;
  const string = () => {
    const start = at++;
    while (text[at] !== '"' && at < text.length) at += text[at] === '\\' ? 2 : 1;
    return JSON.parse(text.slice(start, ++at)) as string;
  };
  const space = () => {
    while (/\s/.test(text[at] ?? '')) at++;
  };
  const value = (member?: string): boolean => {
    space();
    const opening = text[at];
    if (opening === '"') return void string() === null;
    if (opening !== '{' && opening !== '[') {
      while (at < text.length && !/[\s,}\]]/.test(text[at] as string)) at++;
      return false;
    }
    at++;
    const keys = new Set<string>();
    let repeated = false;
    for (space(); text[at] !== '}' && text[at] !== ']' && at < text.length; space()) {
      if (text[at] === ',') {
        at++;
        continue;
      }
      let key: string | undefined;
      if (opening === '{') {
        key = string();
        repeated ||= keys.has(key) && (within === undefined || within === member);
        keys.add(key);
        space();
        at++;
      }
      repeated = value(key) || repeated;
    }
    at++;
    return repeated;
  };
  return value();
}

/** The format's rules, read off its description: why a file is inconsistent, or undefined if it is sound. */
function defectOf(bytes: Buffer): string | undefined {
  const length = Number(bytes.readBigUInt64LE());
  const text = bytes.toString('utf8', 8, 8 + length);
  if (hasRepeatedKey(text)) return 'repeated key';
  const header = JSON.parse(text) as Record<string, Entry>;
  const spans: [number, number][] = [];
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [begin, end] = data_offsets;
    const size = shape.reduce((product, dimension) => product * BigInt(dimension), BigInt(BYTES[dtype] ?? 0));
    if (!(dtype in BYTES)) return `dtype of ${name}`;
    if (size !== BigInt(end) - BigInt(begin)) return `size of ${name}`;
    spans.push([begin, end]);
  }
  spans.sort(([a, b], [c, d]) => a - c || b - d);
  let covered = 0;
  for (const [begin, end] of spans) {
    if (begin !== covered) return `gap or overlap at ${covered}`;
    covered = end;
  }
  return covered === bytes.length - 8 - length ? undefined : 'bytes left over';
}

/** Bytes in memory, read as a file is. */
function sourceOf(bytes: Buffer) {
  return {
    read: async (target: Buffer, offset: number, length: number, position: number) => ({
      bytesRead: bytes.copy(target, offset, position, position + length),
    }),
  };
}

const SEED_HEADER = JSON.stringify({
  __metadata__: { format: 'pt' },
  ...layOut({
    'layer.0.weight': ['F32', 2, 3],
    'layer.0.bias': ['BF16', 3],
    b: ['U8', 0],
    scale: ['F64'],
    a: ['U8', 5],
  }),
});

function mutateFile(random: Random): Buffer {
  let text = SEED_HEADER;
  for (let changes = below(random, 3); changes >= 0; changes--) text = mutateText(random, text);
  const file = fileOf(text, 43 + (random() < 0.1 ? below(random, 9) - 4 : 0));
  if (random() < 0.1) file[below(random, 8)] = below(random, 256);
  if (random() < 0.1) file[below(random, file.length)] = below(random, 256);
  return random() < 0.05 ? file.subarray(0, below(random, file.length + 1)) : file;
}

/** Tests of every reader of what comes with a checkpoint, on texts and files changed at random, so many of each. */
export function testMutations({
  headers,
  indexes,
  configs,
}: Record<'headers' | 'indexes' | 'configs', number>) {
  test(`${headers} mutated headers: none crashes, none that is inconsistent is accepted`, async () => {
    const file = 'model.safetensors';
    const random = seededRandom(2024);
    let accepted = 0;
    for (let round = 0; round < headers; round++) {
      const bytes = mutateFile(random);
      const tensors = await parseHeader(sourceOf(bytes), bytes.length, file).catch((error: Error) => error);
      if (tensors instanceof Error) {
        expect(tensors, `round ${round}: ${tensors.stack}`).toBeInstanceOf(CheckpointError);
        expect(tensors.message).toContain(file);
        continue;
      }
      accepted++;
      expect(defectOf(bytes), `round ${round}: ${bytes.toString('latin1')}`).toBeUndefined();
      const dataStart = 8 + Number(bytes.readBigUInt64LE());
      for (const { offset, byteLength } of tensors.values()) {
        expect(offset >= dataStart && offset + byteLength <= bytes.length).toBe(true);
      }
    }
    expect(accepted).toBeGreaterThan(headers / 100);
    expect(accepted).toBeLessThan(headers / 2);
  });

  test(`${indexes} mutated indexes: none crashes, none leads out of the folder or hides an entry`, async () => {
    const file = 'model.safetensors.index.json';
    const seed = JSON.stringify({
      metadata: { total_size: 43 },
      weight_map: {
        a: 'model-1.safetensors',
        'layer.0.weight': 'model-2.safetensors',
        c: 'sub/model-3.safetensors',
      },
    });
    const random = seededRandom(2025);
    let accepted = 0;
    for (let round = 0; round < indexes; round++) {
      let text = seed;
      for (let changes = below(random, 3); changes >= 0; changes--) text = mutateText(random, text);
      const index = await parseShardIndex(Buffer.from(text), file).catch((error: Error) => error);
      if (index instanceof Error) {
        expect(index, `round ${round}: ${index.stack}`).toBeInstanceOf(CheckpointError);
        continue;
      }
      accepted++;
      const { weight_map } = JSON.parse(text) as { weight_map: Record<string, string> };
      expect(Object.fromEntries(index.shardOf), text).toEqual({ ...weight_map });
      for (const shard of index.shards) {
        expect(
          posix.join('/model', shard).startsWith('/model/') && shard.endsWith('.safetensors'),
          text,
        ).toBe(true);
      }
      expect(hasRepeatedKey(text, 'weight_map'), text).toBe(false);
    }
    expect(accepted).toBeGreaterThan(indexes / 100);
  });

  test(`${configs} mutated configs: none crashes, none that is no JSON is accepted`, async () => {
    const folder = await temporaryFolder();
    const seed = JSON.stringify(
      JSON.parse(await readFile(join(goldenModel('qwen2_moe_a'), 'config.json'), 'utf8')),
    );
    const random = seededRandom(2026);
    let accepted = 0;
    for (let round = 0; round < configs; round++) {
      let text = seed;
      for (let changes = below(random, 3); changes >= 0; changes--) text = mutateText(random, text);
      await writeFile(join(folder, 'config.json'), text);
      const config = await loadConfig(new FolderRepo('fuzz', folder)).catch((error: Error) => error);
      if (config instanceof Error) {
        expect(config, `round ${round}: ${config.stack}\n${text}`).toBeInstanceOf(SwitchyardError);
        continue;
      }
      accepted++;
      expect(() => JSON.parse(text)).not.toThrow();
    }
    expect(accepted).toBeGreaterThan(configs / 100);
  });
}
