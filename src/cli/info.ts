import type { Command } from 'commander';
import { formatBytes } from '../units.ts';
import { fitRows } from './fit-report.ts';
import { formatCount } from './format.ts';
import type { Io } from './io.ts';
import { type ModelInfo, modelInfo } from './model-info.ts';
import { examples } from './options.ts';

interface Flags {
  json?: boolean;
  revision?: string;
}

/** `switchyard info`: what a model is, without loading it. */
export function addInfoCommand(program: Command, io: Io): void {
  program
    .command('info')
    .description('Describe a model: architecture, parameters, experts, files.')
    .argument('<model>', 'a repo on the Hugging Face Hub, or a folder')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--json', 'print one JSON object')
    .addHelpText('after', examples(['switchyard info Qwen/Qwen3-30B-A3B', 'no weight is fetched']))
    .action(async (model: string, flags: Flags) => {
      const options = flags.revision === undefined ? {} : { revision: flags.revision };
      const onWarning = (message: string) => io.stderr.write(`warning: ${message}\n`);
      const info = await modelInfo(model, { ...options, onWarning, signal: io.stop });
      io.stdout.write(flags.json ? `${JSON.stringify(info)}\n` : describe(info));
    });
}

const READING = {
  'in place': 'read in place',
  repacked: 'float64 ones repacked as float32 by the first load',
};

function sizeRows({ bitsPerWeight, bytesPerDecodedToken, reading }: ModelInfo): [string, string][] {
  if (bitsPerWeight === undefined || bytesPerDecodedToken === undefined || reading === undefined) return [];
  const perToken = formatBytes(bytesPerDecodedToken);
  return [['weights', `${bitsPerWeight} bits each, ${READING[reading]}, ${perToken} for a decoded token`]];
}

function inFiles(bytes: number, count: number): string {
  return `${formatBytes(bytes)} in ${count} ${count === 1 ? 'file' : 'files'}`;
}

function missingText({ hub }: ModelInfo): string {
  if (hub === undefined) return 'the weights are not on this disk';
  if (hub.files.length === 0) return 'the repo has no weights';
  const free = hub.freeBytes === undefined ? '' : `; ${formatBytes(hub.freeBytes)} are free in ${hub.folder}`;
  return `${inFiles(hub.bytes, hub.files.length)} on the Hub, not on this disk${free}`;
}

function describe(info: ModelInfo): string {
  const { parameters, files } = info;
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const routing =
    info.experts > 0
      ? `${info.experts}, ${info.expertsPerToken} a token, in ${info.moeLayers} of ${info.layers} layers`
      : 'none';
  const rows: [string, string][] = [
    ['model', info.commit === undefined ? info.model : `${info.model} at ${info.commit}`],
    ['architecture', info.architecture],
    [
      'parameters',
      `${formatCount(parameters.total)} in total, ${formatCount(parameters.active)} active per token`,
    ],
    ['layers', String(info.layers)],
    ['experts', routing],
    ['hidden size', String(info.hiddenSize)],
    ['vocabulary', String(info.vocabSize)],
    ['context', `${info.contextLength} tokens`],
    [
      'dtype',
      info.quantization === undefined ? info.dtype : `${info.dtype}, quantized as ${info.quantization}`,
    ],
    ...sizeRows(info),
    ['size', files.length === 0 ? missingText(info) : inFiles(bytes, files.length)],
    ...files.map((file): [string, string] => ['', `${file.name}  ${formatBytes(file.bytes)}`]),
    ...(info.fit ? fitRows(info.fit) : []),
  ];
  return rows.map(([label, value]) => `${label.padEnd(14)}${value}\n`).join('');
}
