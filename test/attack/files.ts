/** Weights that are damaged before they are opened, or under a model that runs. */
import { cpSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { below, mutateText, pick, type Random } from '../helpers/mutate.ts';
import { type Attack, type Ending, faultOf, type Ground, runChild, withFolder } from './ground.ts';

const WEIGHTS = 'model.safetensors';

type Damage = (random: Random, path: string) => void;

/** What is done to a file that lies there. */
const AT_REST: readonly Damage[] = [
  function cut(random, path) {
    truncateSync(path, below(random, readFileSync(path).length));
  },
  function header(random, path) {
    const bytes = readFileSync(path);
    const length = Number(bytes.readBigUInt64LE());
    let text = bytes.toString('utf8', 8, 8 + length);
    for (let changes = below(random, 3); changes >= 0; changes--) text = mutateText(random, text);
    const changed = Buffer.from(text);
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(changed.length));
    writeFileSync(path, Buffer.concat([size, changed, bytes.subarray(8 + length)]));
  },
  function length(random, path) {
    const bytes = readFileSync(path);
    bytes[below(random, 8)] = below(random, 256);
    writeFileSync(path, bytes);
  },
  function grown(random, path) {
    writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(1 + below(random, 100))]));
  },
  function noise(random, path) {
    const bytes = readFileSync(path);
    for (let n = 1000; n > 0; n--) bytes[below(random, bytes.length)] = below(random, 256);
    writeFileSync(path, bytes);
  },
];

/** What is done to a file that is mapped. */
const IN_USE: readonly Damage[] = [
  function cut(random, path) {
    truncateSync(path, below(random, readFileSync(path).length));
  },
  function overwritten(random, path) {
    const file = openSync(path, 'r+');
    const size = readFileSync(path).length;
    writeSync(
      file,
      Buffer.alloc(Math.min(size, 1 + below(random, size)), below(random, 256)),
      0,
      undefined,
      0,
    );
  },
  function removed(_random, path) {
    rmSync(path);
  },
  function replaced(random, path) {
    const bytes = readFileSync(path);
    rmSync(path);
    writeFileSync(path, bytes.subarray(0, below(random, bytes.length)));
  },
];

export const files: Attack = {
  name: 'files',
  round: (random, ground) =>
    withFolder(async (folder) => {
      cpSync(ground.model, folder, { recursive: true });
      const path = join(folder, WEIGHTS);
      const inUse = random() < 0.5;
      const damage = pick(random, inUse ? IN_USE : AT_REST);
      let ending: Ending;
      if (inUse) {
        ending = await whileRunning(ground, folder, () =>
          sleep(1000 * random()).then(() => damage(random, path)),
        );
      } else {
        damage(random, path);
        ending = await ground.speak(folder);
      }
      // A changed number is no fault that a file format could tell.
      const fault = faultOf(ending, ground, true);
      return fault && `${damage.name} ${inUse ? 'in use' : 'at rest'}: ${fault}`;
    }),
};

/** A model that generates again and again while something is done to it, for at most a second. */
function whileRunning(ground: Ground, folder: string, harm: () => Promise<void>): Promise<Ending> {
  return runChild('speak-on.mjs', [ground.library, folder], harm);
}
