import { cp, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { readHeader } from '../../src/safetensors/header.ts';
import { temporaryFolder } from '../hub/helpers.ts';
import { fileOf } from '../safetensors/build.ts';
import { CACHED_COMMIT, CACHED_ID, cacheCopy } from './cache-files.ts';
import { run } from './capture.ts';

const MALFORMED = join(import.meta.dirname, '../fixtures/goldens/malformed');
const SHARD_1 = '8d967bc0308e0de002aa852d01d117a5885275bc960d8f4c02d72e952b6d74ac';

let copy: Awaited<ReturnType<typeof cacheCopy>>;
beforeEach(async () => {
  copy = await cacheCopy();
});
const blob = (name: string) => join(copy.repo, 'blobs', name);

test('a sound model: every file with its hash, every tensor', async () => {
  const { exitCode, stdout, stderr } = await run(['verify', CACHED_ID]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout).toMatch(/^ok {5}model-00001-of-00002\.safetensors {2}3\.6 kB, sha256$/m);
  expect(stdout).toMatch(/^ok {5}config\.json {2}629 B, git-sha1$/m);
  expect(stdout).toMatch(/^ok {5}vision\/config\.json {2}2 B, git-sha1$/m);
  expect(stdout).toMatch(/^ok {5}23 tensors, as qwen2_moe needs them$/m);
  expect(stdout).toMatch(/acme\/tiny-moe is complete and sound/);
});

/** A folder with the golden checkpoint in one file and one more tensor of a single byte. */
async function folderWith(extra: string): Promise<string> {
  const folder = await temporaryFolder();
  const source = join(MALFORMED, 'ok_metadata_only_format');
  await cp(join(source, 'config.json'), join(folder, 'config.json'));
  const bytes = await readFile(join(source, 'model.safetensors'));
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, start));
  const end = bytes.length - start;
  header[extra] = { dtype: 'U8', shape: [1], data_offsets: [end, end + 1] };
  const plain = fileOf(header, 0);
  await writeFile(
    join(folder, 'model.safetensors'),
    Buffer.concat([plain, bytes.subarray(start), Buffer.alloc(1)]),
  );
  return folder;
}

test('a plain folder: no hashes are known, the tensors are checked, unused ones are noted', async () => {
  const { exitCode, stdout } = await run(['verify', await folderWith('extra.weight')]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^ok {5}model\.safetensors {2}\d\.\d kB$/m);
  expect(stdout).toMatch(/^note {3}tensor "extra\.weight" is not used by qwen2_moe$/m);
});

test('an expert beyond num_experts is a fault', async () => {
  const name = 'model.layers.0.mlp.experts.2.up_proj.weight';
  const { exitCode, stdout } = await run(['verify', await folderWith(name)]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(
    /^FAULT {2}tensor "model\.layers\.0\.mlp\.experts\.2\.up_proj\.weight" is of an expert beyond/m,
  );
});

test('prints one JSON object with --json', async () => {
  const { stdout } = await run(['verify', CACHED_ID, '--json']);
  const found = JSON.parse(stdout);
  expect(found).toMatchObject({
    model: CACHED_ID,
    commit: CACHED_COMMIT,
    faults: [],
    tensors: { architecture: 'qwen2_moe', tensors: 23 },
  });
  expect(found.files).toHaveLength(5);
});

test('one flipped bit in a shard is found by its hash', async () => {
  const bytes = await readFile(blob(SHARD_1));
  bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
  await writeFile(blob(SHARD_1), bytes);
  const { exitCode, stdout, stderr } = await run(['verify', CACHED_ID]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(
    new RegExp(
      `^FAULT {2}model-00001-of-00002\\.safetensors: 3584 bytes with sha256 .*expected ${SHARD_1}`,
      'm',
    ),
  );
  expect(stdout).toMatch(/23 tensors, as qwen2_moe needs them/);
  expect(stderr).toMatch(/1 fault found/);
});

test('a truncated shard is found by hash and header, and both are told', async () => {
  await truncate(blob(SHARD_1), 3000);
  const { exitCode, stdout, stderr } = await run(['verify', CACHED_ID]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/FAULT {2}model-00001-of-00002\.safetensors: 3000 bytes/);
  expect(stdout).toMatch(/FAULT .*bad header: .* ends at byte/);
  expect(stderr).toMatch(/2 faults found/);
});

test('a blob that is gone, behind a link of a link', async () => {
  await rm(join(copy.root, 'store'), { recursive: true });
  const { exitCode, stdout } = await run(['verify', CACHED_ID]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/FAULT {2}model-00002-of-00002\.safetensors: it points to a blob that is not there/);
  expect(stdout).toMatch(/FAULT {2}vision\/config\.json: it points to a blob/);
});

test.each([
  ['tensor_absent', /FAULT .*model\.layers\.0\.mlp\.experts\.1\.up_proj\.weight/],
  ['tensor_shape', /FAULT .*model\.layers\.0\.self_attn\.q_proj\.weight/],
  ['tensor_integer', /FAULT .*model\.layers\.0\.self_attn\.q_proj\.weight/],
  ['index_shard_absent', /FAULT .*model-00002-of-00002\.safetensors/],
  ['config_not_json', /FAULT .*config\.json/],
  ['config_absent', /FAULT .*config\.json/],
  ['weights_absent', /FAULT .*model\.safetensors/],
])('the malformed golden %s is a fault', async (name, message) => {
  const { exitCode, stdout } = await run(['verify', join(MALFORMED, name)]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(message);
});

const QUANTIZED = join(import.meta.dirname, '../fixtures/goldens/quantized');
const QUANTIZED_MALFORMED = join(import.meta.dirname, '../fixtures/goldens/quantized-malformed');

test.each([
  [
    'ct_scale_nan',
    /^FAULT {2}\S+model\.safetensors: tensor '\S+experts\.1\.gate_proj\.weight_scale' .* NaN, at place \d+; .*fetch it again/m,
  ],
  [
    'gptq_g_idx_range',
    /^FAULT {2}\S+: tensor '\S+k_proj\.g_idx' puts column \d+ into group \d+, but there are \d+ groups; fetch/m,
  ],
])('values for which a load refuses %s are a fault', async (name, message) => {
  const { exitCode, stdout } = await run(['verify', join(QUANTIZED_MALFORMED, name)]);
  expect(exitCode).toBe(1);
  expect(stdout.match(/^FAULT/gm)).toHaveLength(1);
  expect(stdout).toMatch(message);
});

test.each(['ok_fp8_scales_float32', 'ok_quantize_config_apart'])('%s has sound scales', async (name) => {
  const { exitCode, stdout } = await run(['verify', join(QUANTIZED_MALFORMED, name)]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^ok {5}the scales of \d+ quantized weights$/m);
});

test.each([
  ['qwen3_moe_ct_nvfp4', 'weight_global_scale', Buffer.alloc(4), /is 0, with which/],
  ['qwen3_moe_modelopt_nvfp4', 'weight_scale_2', Buffer.from('0000c0ff', 'hex'), /is NaN, with which/],
  ['qwen3_moe_bnb_nf4', 'nested_absmax', Buffer.from('0000807f', 'hex'), /infinity, at place 0/],
  ['qwen3_moe_mlx_4bit', 'biases', Buffer.from('c07f', 'hex'), /NaN, at place 0/],
  ['qwen3_moe_ct_mxfp4', 'weight_scale', Buffer.from('ff', 'hex'), /NaN, at place 0/],
])('of %s, each %s that is damaged is named', async (name, part, bytes, message) => {
  const folder = await temporaryFolder();
  await cp(join(QUANTIZED, name), folder, { recursive: true });
  const files = (await readdir(folder)).filter((file) => file.endsWith('.safetensors'));
  const damaged: string[] = [];
  for (const file of files.map((name) => join(folder, name))) {
    const content = await readFile(file);
    for (const { name: tensor, offset } of (await readHeader(file)).values()) {
      if (!/layers\.0\.self_attn\.[qv]_proj/.test(tensor) || !tensor.endsWith(`.${part}`)) continue;
      bytes.copy(content, offset);
      damaged.push(tensor);
    }
    await writeFile(file, content);
  }
  const { exitCode, stdout } = await run(['verify', folder]);
  expect(exitCode).toBe(1);
  const faults = stdout.split('\n').filter((line) => line.startsWith('FAULT'));
  expect(damaged).toHaveLength(2);
  expect(faults).toHaveLength(2);
  for (const tensor of damaged) expect(faults.find((fault) => fault.includes(tensor))).toMatch(message);
});

test('a bias that says something where the architecture has none is a fault', async () => {
  const folder = await temporaryFolder();
  await cp(join(QUANTIZED, 'qwen2_moe_gptq'), folder, { recursive: true });
  const file = join(folder, 'model.safetensors');
  const content = await readFile(file);
  const name = 'model.layers.0.mlp.experts.1.up_proj.bias';
  content[(await readHeader(file)).get(name)?.offset as number] = 1;
  await writeFile(file, content);
  const { exitCode, stdout } = await run(['verify', folder]);
  expect(exitCode).toBe(1);
  expect(stdout.match(/^FAULT/gm)).toHaveLength(1);
  expect(stdout).toMatch(/^FAULT .*experts\.1\.up_proj\.bias is not zero, but the architecture has no bias/m);
});

test('a folder in place of the weights is a fault with what helps', async () => {
  const folder = await temporaryFolder();
  await cp(join(MALFORMED, 'ok_metadata_only_format', 'config.json'), join(folder, 'config.json'));
  await mkdir(join(folder, 'model.safetensors'));
  const { exitCode, stdout } = await run(['verify', folder]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(
    /^FAULT .*model\.safetensors is not a regular file, but a folder\. Move it away, and put the file in its place/m,
  );
});

test.each([
  [['verify'], 2, /missing required argument/],
  [['verify', 'acme/other'], 1, /acme\/other.*offline/],
  [['verify', CACHED_ID, '--bogus'], 2, /unknown option/],
])('%j ends with code %i', async (args, code, message) => {
  const { exitCode, stderr } = await run(args);
  expect(exitCode).toBe(code);
  expect(stderr).toMatch(message);
});
