import type { Command } from 'commander';
import { unwritable, writeWholeFile } from '../files.ts';
import { type RoutingFile, readRoutingFile } from '../routing/file.ts';
import { routingPage } from '../routing/page.ts';
import { compareRouting, routingStatistics } from '../routing/statistics.ts';
import { describeDifference, describeRouting } from '../routing/summary.ts';
import type { Io } from './io.ts';
import { examples } from './options.ts';

interface Flags {
  html?: string;
  summary?: boolean;
}

/** `switchyard routing`: what a file written by `generate --routing` says of the experts. */
export function addRoutingCommand(program: Command, io: Io): void {
  program
    .command('routing')
    .description('Show which experts worked, and how evenly, from a file that `generate --routing` wrote.')
    .argument('<file>', 'a file of routing records')
    .argument('[second]', 'another one, to compare: of other prompts, another precision or backend')
    .option('--html <file>', 'write one page for a browser, which asks for nothing else')
    .option('--summary', 'print figures; the default without --html')
    .addHelpText(
      'after',
      examples(
        ['switchyard generate --prompt "In the beginning" --routing run.jsonl', ''],
        ['switchyard routing run.jsonl --html run.html', ''],
      ),
    )
    .action((file: string, second: string | undefined, flags: Flags) => showRouting(file, second, flags, io));
}

async function showRouting(name: string, other: string | undefined, flags: Flags, io: Io): Promise<void> {
  const file = await readRoutingFile(name);
  const statistics = routingStatistics(file);
  const second = other === undefined ? undefined : await readSecond(file, other);
  if (flags.html !== undefined) {
    const page = routingPage(file, statistics, second);
    await writeWholeFile(flags.html, page).catch((error: Error) => {
      throw unwritable(`--html ${flags.html}`, error, 'Name another file');
    });
  }
  if (flags.html !== undefined && !flags.summary) return;
  io.stdout.write(describeRouting(statistics));
  if (second) io.stdout.write(describeDifference(second.differences));
}

async function readSecond(first: RoutingFile, name: string) {
  const file = await readRoutingFile(name);
  return { statistics: routingStatistics(file), differences: compareRouting(first, file) };
}
