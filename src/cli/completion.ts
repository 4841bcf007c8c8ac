import { Argument, type Command } from 'commander';
import { bashScript } from './completion/bash.ts';
import { fishScript } from './completion/fish.ts';
import { placesOf } from './completion/places.ts';
import { zshScript } from './completion/zsh.ts';
import type { Io } from './io.ts';
import { examples } from './options.ts';

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript };

/** `switchyard completion`: prints what makes a shell complete commands and options. */
export function addCompletionCommand(program: Command, io: Io): void {
  program
    .command('completion')
    .description('Print what makes a shell complete commands and options.')
    .addArgument(new Argument('<shell>', 'which shell').choices(Object.keys(SCRIPTS)))
    .addHelpText(
      'after',
      examples(
        ['eval "$(switchyard completion bash)"', 'in ~/.bashrc'],
        ['eval "$(switchyard completion zsh)"', 'in ~/.zshrc, behind compinit where that is'],
        ['switchyard completion fish | source', 'in ~/.config/fish/config.fish'],
      ),
    )
    .action((shell: keyof typeof SCRIPTS) => void io.stdout.write(SCRIPTS[shell](placesOf(program))));
}
