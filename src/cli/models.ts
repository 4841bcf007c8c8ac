import type { Command } from 'commander';
import { isUsable, type RunnableModel, runnableModels } from '../auto/runnable-models.ts';
import { freeSpace } from '../files.ts';
import { defaultCacheDir } from '../hub/environment.ts';
import { memoryHere } from '../runtime/memory-here.ts';
import { formatBytes } from '../units.ts';
import { readRate, speedText } from './fit-report.ts';
import type { Io } from './io.ts';
import { examples, memorySize } from './options.ts';

interface Flags {
  memory?: number;
  json?: boolean;
}

/** `switchyard models`: published models that run well on this machine, best first, each with its command. */
export function addModelsCommand(program: Command, io: Io): void {
  program
    .command('models')
    .description(
      'List published models that run well on this machine, best first, with the command for each.',
    )
    .option(
      '--memory <size>',
      'for so much free memory, such as 32GB, instead of what is free here',
      memorySize,
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      examples(
        ['switchyard models', ''],
        ['switchyard models --memory 64GB', 'what a larger machine could run'],
      ),
    )
    .action(async ({ memory, json }: Flags) => {
      const here = memoryHere();
      const room = memory ?? here.available;
      // Another machine's disk is not known.
      const disk = memory === undefined ? await freeSpace(defaultCacheDir()) : undefined;
      const memoryRate = await readRate();
      const models = runnableModels({ memory: room, memoryRate }, disk);
      if (json) {
        const listed = models.map((model) => ({
          ...model,
          usable: isUsable(model, disk ?? Number.POSITIVE_INFINITY),
          command: commandFor(model),
        }));
        io.stdout.write(`${JSON.stringify({ memory: room, disk, memoryRate, models: listed })}\n`);
      } else io.stdout.write(describe(models, { room, disk, memoryRate }));
    });
}

interface Machine {
  readonly room: number;
  readonly disk: number | undefined;
  readonly memoryRate: number | undefined;
}

function describe(models: readonly RunnableModel[], { room, disk, memoryRate }: Machine): string {
  const usable = models.filter((model) => isUsable(model, disk ?? Number.POSITIVE_INFINITY));
  const others = models.filter((model) => !usable.includes(model));
  const rate = memoryRate === undefined ? '' : `, read at ${formatBytes(memoryRate)}/s as measured now`;
  const space = disk === undefined ? '' : `; ${formatBytes(disk)} of disk`;
  const lines = [`${formatBytes(room)} of free memory${rate}${space}`, ''];
  if (usable.length === 0) lines.push('no published model that is known here fits', '');
  for (const model of usable) lines.push(`${title(model)}\n  ${figures(model)}\n  ${commandFor(model)}\n`);
  if (others.length > 0) {
    lines.push('too large for this machine, at their smallest:');
    for (const model of others)
      lines.push(
        `  ${title(model)}: ${formatBytes(model.needs.weights)} of memory, ${formatBytes(model.diskBytes)} of disk`,
      );
  }
  return `${lines.join('\n')}\n`;
}

function title({ repo, quantization, use }: RunnableModel): string {
  return `${repo}${quantization === undefined ? '' : `, rounded to ${quantization}`} (${use})`;
}

function figures({ needs, diskBytes, tokensPerSecond }: RunnableModel): string {
  const speed = tokensPerSecond === undefined ? '' : `up to ${speedText(tokensPerSecond)} tokens/s; `;
  return (
    `${speed}${formatBytes(needs.weights)} of memory, ${formatBytes(needs.token)} read a token, ` +
    `${formatBytes(diskBytes)} of disk`
  );
}

function commandFor({ repo, quantization }: RunnableModel): string {
  const rounding = quantization === undefined ? '' : ` --quantize ${quantization}`;
  return `npx moe-switchyard chat -m ${repo}${rounding}`;
}
