import { readFile, stat } from 'node:fs/promises';
import * as z from 'zod';
import { show, TokenizerError } from '../errors.ts';
import { reading } from '../files.ts';
import type { Repo } from '../hub/types.ts';
import { ChatTemplate } from './chat-template.ts';
import { readSettings, type TokenizerConfig, templatesSchema } from './tokenizer-config.ts';

const FOLDER = 'additional_chat_templates';
const LARGEST_TEMPLATE = 4 * 2 ** 20;
const jsonSchema = z.looseObject({ chat_template: templatesSchema });

/**
 * The chat templates of a repo by name; a single one is called `default`. Files come before tokenizer_config.json:
 * chat_template.jinja, and one template a name in additional_chat_templates/. chat_template.json, of older processors,
 * counts where there is nothing else.
 *
 * @throws {TokenizerError} a file is damaged.
 */
export async function readChatTemplates(
  repo: Repo,
  config: TokenizerConfig,
  configPath: string | undefined,
): Promise<Map<string, ChatTemplate>> {
  const main = await repo.file('chat_template.jinja');
  // Where the settings have the template, the repo was saved without files of templates.
  const further = main === undefined && config.chat_template ? [] : await furtherFiles(repo);
  if (main !== undefined || further.length > 0) {
    const files = main === undefined ? further : [['default', main] as const, ...further];
    return new Map(
      await Promise.all(
        files.map(async ([name, path]) => [name, new ChatTemplate(await readTemplate(path), path)] as const),
      ),
    );
  }
  if (config.chat_template) return templatesOf(config.chat_template, configPath ?? 'tokenizer_config.json');
  const json = await repo.file('chat_template.json');
  if (json === undefined) return new Map();
  return templatesOf((await readSettings(jsonSchema, json, 'chat_template.json')).chat_template, json);
}

async function furtherFiles(repo: Repo): Promise<(readonly [name: string, path: string])[]> {
  const names = ((await repo.filesIn?.(FOLDER)) ?? []).filter((name) => name.endsWith('.jinja'));
  const files = await Promise.all(
    names.sort().map(async (name) => {
      const path = await repo.file(`${FOLDER}/${name}`);
      return path === undefined ? [] : [[name.slice(0, -'.jinja'.length), path] as const];
    }),
  );
  return files.flat();
}

async function readTemplate(path: string): Promise<string> {
  const { size } = await reading(path, () => stat(path));
  if (size > LARGEST_TEMPLATE) {
    throw new TokenizerError(
      `${path} has ${size} bytes; the limit for a chat template is ${LARGEST_TEMPLATE}.`,
    );
  }
  return (await reading(path, () => readFile(path, 'utf8'))).replace(/^\ufeff/, '');
}

function templatesOf(value: z.output<typeof templatesSchema>, file: string): Map<string, ChatTemplate> {
  if (typeof value === 'string') return new Map([['default', new ChatTemplate(value, file)]]);
  const named = Array.isArray(value)
    ? value.map(({ name, template }) => [name, template] as const)
    : Object.entries(value);
  return new Map(
    named.map(([name, template]) => [name, new ChatTemplate(template, `${file} (${show(name)})`)] as const),
  );
}
