import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Command } from 'commander';
import { EngineError } from '../errors.ts';
import { platformFault, thisPlatform } from '../runtime/native-files.ts';
import { packageRoot } from '../runtime/package-root.ts';
import { type Io, UsageError } from './io.ts';

interface Flags {
  cuda?: boolean;
  arch?: string;
}

/** `switchyard build`: compiles the package's native code where it lies. */
export function addBuildCommand(program: Command, io: Io): void {
  program
    .command('build')
    .description('Compile the native engine here, in place of the prebuilt one; it takes a C++20 compiler.')
    .option('--cuda', 'compile the CUDA library instead; it takes nvcc 12.4 or newer')
    .option('--arch <list>', 'with --cuda: compute capabilities, such as 80,90a')
    .addHelpText(
      'after',
      '\nThe environment variables CXX, CXXFLAGS, LDFLAGS and CUDA_HOME choose compilers and flags.',
    )
    .action(async ({ cuda, arch }: Flags) => {
      if (arch !== undefined && !cuda) throw new UsageError('--arch goes with --cuda');
      const fault = platformFault(thisPlatform());
      if (fault !== undefined) throw new EngineError(fault);
      const script = cuda ? 'build-cuda.mjs' : 'build-native.mjs';
      await runScript(script, arch === undefined ? [] : ['--arch', arch], io);
    });
}

/** Everything the compiler says goes to stderr. */
async function runScript(name: string, args: readonly string[], { stderr, stop }: Io): Promise<void> {
  const script = join(packageRoot(), 'scripts', name);
  const child = spawn(process.execPath, [script, ...args], {
    signal: stop,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr]) stream.pipe(stderr, { end: false });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new EngineError('the native code was not compiled; see above');
}
