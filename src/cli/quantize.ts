import type { Command } from 'commander';
import { type Quantization, saveQuantized } from '../index.ts';
import { formatBytes } from '../units.ts';
import type { Io } from './io.ts';
import { examples, given, integer, quantization } from './options.ts';
import { createProgressDisplay } from './progress.ts';

interface Flags {
  to: Quantization;
  revision?: string;
  threads?: number;
  json?: boolean;
}

/** `switchyard quantize`: writes a checkpoint with rounded weights, for this and other programs. */
export function addQuantizeCommand(program: Command, io: Io): void {
  program
    .command('quantize')
    .description(
      'Write a model with rounded weights to a folder, as compressed-tensors, for this and other programs.',
    )
    .argument('<model>', 'a repo on the Hugging Face Hub, or a folder')
    .argument('<folder>', 'where to write it; it must not exist, or be empty')
    .requiredOption(
      '--to <spec>',
      'int8, int4, int4-asymmetric, or experts=int4,attention=int8,head=int8,group-size=32',
      quantization,
    )
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--threads <n>', 'matrices rounded at a time', integer(1, 1024))
    .option('--json', 'print one JSON object')
    .addHelpText('after', examples(['switchyard quantize Qwen/Qwen3-30B-A3B ./qwen3-int4 --to int4', '']))
    .action(async (model: string, folder: string, { to, json, ...flags }: Flags) => {
      const progress = createProgressDisplay(io.stderr);
      try {
        const saved = await saveQuantized(model, folder, {
          ...given(flags),
          quantization: to,
          onProgress: progress.onProgress.bind(progress),
          onWarning: (message) => progress.write(`warning: ${message}\n`),
          signal: io.stop,
        });
        const text = `${saved.folder}: ${saved.scheme}, ${formatBytes(saved.bytes)}\n`;
        io.stdout.write(json ? `${JSON.stringify(saved)}\n` : text);
      } finally {
        progress.finish();
      }
    });
}
