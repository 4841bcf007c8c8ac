import type { Command } from 'commander';
import { DEMO_MODEL, type ExecutionStats, type TuningTable } from '../index.ts';
import type { Io } from './io.ts';
import { loadModel, type ModelFlags } from './load-model.ts';
import { measureExperts } from './measure-ahead.ts';
import { addComputeOptions, examples, requireDevice } from './options.ts';

interface Flags extends ModelFlags {
  model?: string;
  json?: boolean;
}

const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'] as const;
const CHART_CELLS = 40;

/** `switchyard experts`: which experts backend is fastest for how many tokens, on this machine. */
export function addExpertsCommand(program: Command, io: Io): void {
  const command = program
    .command('experts')
    .description('Measure which experts backend is fastest for how many tokens; what was measured is kept.')
    .option('-m, --model <model>', 'a repo on the Hugging Face Hub, or a folder; by default the demo')
    .option('--revision <revision>', 'branch, tag or commit of the repo');
  addComputeOptions(command)
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      examples(['switchyard experts -m Qwen/Qwen1.5-MoE-A2.7B', 'what --experts auto goes by']),
    )
    .action(async ({ model: name = DEMO_MODEL, json, compile: _, ...flags }: Flags) => {
      await requireDevice(flags.device);
      const model = await loadModel(name, flags, io);
      try {
        const tuning = await measureExperts(model, io);
        const { device } = model.executionStats;
        io.stdout.write(
          json ? `${JSON.stringify({ model: name, device, tuning })}\n` : describe(device, tuning),
        );
      } finally {
        await model.dispose();
      }
    });
}

function describe(device: string, tuning: ExecutionStats['tuning']): string {
  if (!tuning) return 'this model has no experts\n';
  const source = tuning.source === 'measured' ? 'measured now' : 'measured earlier';
  return `a pass on ${device === 'cpu' ? 'the CPU' : device}, milliseconds, ${source}\n\n${table(tuning.table)}\n${chart(tuning.table)}`;
}

function table(entries: TuningTable): string {
  const rows = entries.map(({ tokens, backend, milliseconds }) => [
    String(tokens),
    ...BACKENDS.map((name) => (milliseconds === undefined ? '' : milliseconds[name].toPrecision(3))),
    backend,
  ]);
  const head = ['tokens', ...BACKENDS, 'auto'];
  return [head, ...rows]
    .map((cells) => cells.map((cell, i) => (i < cells.length - 1 ? cell.padStart(12) : `  ${cell}`)).join(''))
    .map((line) => `${line}\n`)
    .join('');
}

/** Speed of each backend beside the fastest of its row, as bars. */
function chart(entries: TuningTable): string {
  const lines = entries.flatMap(({ tokens, milliseconds }) => {
    if (milliseconds === undefined) return [];
    const least = Math.min(...BACKENDS.map((name) => milliseconds[name]));
    return BACKENDS.map((name, i) => {
      const share = milliseconds[name] === 0 ? 1 : least / milliseconds[name];
      const bar = '#'.repeat(Math.max(1, Math.round(CHART_CELLS * share)));
      return `${(i === 0 ? String(tokens) : '').padStart(12)}  ${name.padEnd(10)} ${bar} ${Math.round(100 * share)}%\n`;
    });
  });
  return `speed beside the fastest, by tokens of a pass\n\n${lines.join('')}`;
}
