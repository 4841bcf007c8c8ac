/**
 * Attacks of every kind in random mixtures, for a minute, or as long as `npm run attack -- --minutes N` says. Each round has a seed of its own,
 * printed where something falls.
 */
import { expect, it } from 'vitest';
import { seededRandom } from '../hub/helpers.ts';
import { callbacks } from './callbacks.ts';
import { configs } from './configs.ts';
import { disposals } from './disposals.ts';
import { exits } from './exits.ts';
import { files } from './files.ts';
import { type Attack, openGround } from './ground.ts';
import { hubFaults } from './hub-faults.ts';
import { kills } from './kills.ts';
import { workers } from './workers.ts';

const ATTACKS: readonly Attack[] = [hubFaults, kills, configs, files, callbacks, workers, disposals, exits];

const { SWITCHYARD_ATTACK_MINUTES = '1', SWITCHYARD_ATTACK_SEED, SWITCHYARD_ATTACK_ONLY } = process.env;
const chosen = ATTACKS.filter(({ name }) => !SWITCHYARD_ATTACK_ONLY || name === SWITCHYARD_ATTACK_ONLY);

it('nothing that is done to it brings the library down, hangs it or makes it say raw words', async () => {
  const end = Date.now() + 60_000 * Number(SWITCHYARD_ATTACK_MINUTES);
  const first = Number(SWITCHYARD_ATTACK_SEED ?? Date.now() % 2 ** 31);
  const ground = await openGround();
  const rounds = new Map(chosen.map(({ name }) => [name, 0]));
  const faults: string[] = [];
  try {
    expect(ground.sound.stderr).toBe('');
    // A round after another: each attack comes as often as the others, however long it takes.
    for (let seed = first; Date.now() < end || seed < first + chosen.length; seed++) {
      const attack = chosen[seed % chosen.length] as Attack;
      const fault = await attack
        .round(seededRandom(seed), ground)
        .catch((error: Error) => `the attack itself failed: ${error.stack}`);
      rounds.set(attack.name, (rounds.get(attack.name) ?? 0) + 1);
      if (fault) faults.push(`--only ${attack.name} --seed ${seed}: ${fault}`);
    }
  } finally {
    await ground.remove();
  }
  console.log(`attack from seed ${first}: ${[...rounds].map(([name, n]) => `${name} ${n}`).join(', ')}`);
  expect(faults).toEqual([]);
});
