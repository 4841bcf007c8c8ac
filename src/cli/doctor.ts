import type { Command } from 'commander';
import { describeDiagnosis } from '../doctor/describe.ts';
import { diagnose } from '../doctor/diagnose.ts';
import { EngineError } from '../errors.ts';
import { version } from '../runtime/package-root.ts';
import type { Io } from './io.ts';
import { examples } from './options.ts';

/** `switchyard doctor`: what this machine has, what will be used, and what to do about what is missing. */
export function addDoctorCommand(program: Command, io: Io): void {
  program
    .command('doctor')
    .description('Say what models would run on here, what is missing, and what to do about it.')
    .option('--cuda', 'list what device cuda needs also where nothing of it is here')
    .option('--json', 'print one JSON object, of everything')
    .addHelpText('after', examples(['switchyard doctor', '']))
    .action(async ({ cuda, json }: { cuda?: true; json?: true }) => {
      const diagnosis = await diagnose();
      const report = json
        ? `${JSON.stringify({ switchyard: version(), ...diagnosis })}\n`
        : `Switchyard ${version()}\n${describeDiagnosis(diagnosis, cuda)}`;
      io.stdout.write(report);
      if (!diagnosis.ok)
        throw new EngineError('the engine does not work on this machine; the report says why');
    });
}
