import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * A copy of a model folder with a single weights file, changed.
 * @param rename new name of a tensor; undefined leaves it out
 * @param config fields laid over config.json
 */
export function changedModel(
  source: string,
  {
    rename = (name) => name,
    config = {},
  }: { rename?: (name: string) => string | undefined; config?: object },
): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'changed-model-'));
  cpSync(source, folder, { recursive: true });
  const configFile = join(folder, 'config.json');
  const json = JSON.parse(readFileSync(configFile, 'utf8')) as object;
  writeFileSync(configFile, JSON.stringify({ ...json, ...config }));
  const weights = join(folder, 'model.safetensors');
  writeFileSync(weights, renamed(readFileSync(weights), rename));
  return { folder, remove: () => rmSync(folder, { recursive: true }) };
}

type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] };

function renamed(bytes: Buffer, rename: (name: string) => string | undefined): Buffer {
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...entries } = JSON.parse(bytes.toString('utf8', 8, start)) as Record<string, Entry>;
  const header: Record<string, unknown> = {};
  const data: Buffer[] = [];
  let end = 0;
  for (const [stored, { dtype, shape, data_offsets }] of Object.entries(entries)) {
    const name = rename(stored);
    if (name === undefined) continue;
    const part = bytes.subarray(start + data_offsets[0], start + data_offsets[1]);
    header[name] = { dtype, shape, data_offsets: [end, end + part.length] };
    end += part.length;
    data.push(part);
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...data]);
}

/** A model folder made of links into another, but for these files: their JSON, or undefined for those to leave out. */
export function linkedModel(
  source: string,
  files: Readonly<Record<string, object | undefined>>,
): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'linked-model-'));
  for (const { name } of readdirSync(source, { withFileTypes: true }).filter((entry) => entry.isFile()))
    if (!Object.hasOwn(files, name)) symlinkSync(join(source, name), join(folder, name));
  for (const [name, json] of Object.entries(files))
    if (json !== undefined) writeFileSync(join(folder, name), JSON.stringify(json));
  return { folder, remove: () => rmSync(folder, { recursive: true }) };
}
