/** JSON files of a model with numbers, words and bytes changed at random. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { below, mutateText, pick } from '../helpers/mutate.ts';
import { type Attack, faultOf, withFolder } from './ground.ts';

export const configs: Attack = {
  name: 'configs',
  round: (random, ground) =>
    withFolder(async (folder) => {
      cpSync(ground.model, folder, { recursive: true });
      const names = readdirSync(folder).filter((name) => /\.(json|jinja)$/.test(name));
      // Most of what a stranger can say is in config.json.
      const name = random() < 0.5 ? 'config.json' : pick(random, names);
      let text = readFileSync(join(folder, name), 'utf8');
      for (let changes = below(random, 3); changes >= 0; changes--) text = mutateText(random, text);
      writeFileSync(join(folder, name), text);
      // Some changes leave a file that is valid and says something else.
      const fault = faultOf(await ground.speak(folder), ground, true);
      return fault && `${name}: ${fault}`;
    }),
};
