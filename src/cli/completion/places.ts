import type { Argument, Command, Option } from 'commander';

/** The names that the package's command goes by. */
export const NAMES = ['switchyard', 'moe-switchyard'] as const;

/** What can be typed behind a command. */
export interface Place {
  /** The names that lead to it, such as `cache ls`; '' for the program itself. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  /** `--help` among them. */
  readonly options: readonly Wanted[];
  readonly operands: readonly Wanted[];
}

/** An option or an operand. */
export interface Wanted {
  /** Of an option, `-m` and `--model`. */
  readonly flags: readonly string[];
  readonly description: string;
  /** The value that it takes, undefined: none. */
  readonly value: Value | undefined;
}

export interface Value {
  /** As the help calls it, such as `file`. */
  readonly name: string;
  readonly isOptional: boolean;
  /** What it may be, where that can be listed. */
  readonly choices: readonly string[];
  /** Whether names of files and folders are worth offering. */
  readonly isPath: boolean;
}

/** What the help calls values that are paths. */
const PATHS = new Set(['file', 'folder', 'model', 'image', 'in', 'out', 'second']);

/** The program and all commands below it, but for hidden ones. */
export function placesOf(program: Command): Place[] {
  return below(program, '');
}

function below(command: Command, path: string): Place[] {
  const help = command.createHelp();
  // The command "help" says what --help does.
  const commands = help.visibleCommands(command).filter((one) => one.name() !== 'help');
  const place = {
    path,
    commands: commands.map((one) => ({ name: one.name(), description: one.description() })),
    options: help.visibleOptions(command).map(ofOption),
    operands: command.registeredArguments.map(ofArgument),
  };
  return [place, ...commands.flatMap((one) => below(one, `${path} ${one.name()}`.trimStart()))];
}

function ofOption(option: Option): Wanted {
  const { short, long, description, argChoices = [], required, optional, flags } = option;
  const name = /[<[](.+?)(?:\.\.\.)?[\]>]/.exec(flags)?.[1] ?? 'value';
  return {
    flags: [short, long].filter((flag) => flag !== undefined),
    description,
    value: required || optional ? wantedValue(name, optional, argChoices) : undefined,
  };
}

function ofArgument(argument: Argument): Wanted {
  const { required, description, argChoices = [] } = argument;
  return { flags: [], description, value: wantedValue(argument.name(), !required, argChoices) };
}

function wantedValue(name: string, isOptional: boolean, choices: readonly string[]): Value {
  return { name, isOptional, choices, isPath: choices.length === 0 && PATHS.has(name) };
}

/** As one word of a shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
