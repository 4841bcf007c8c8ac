/** Programs that wait for ever: the limit of the tests would end them much later, and say less. */
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** How often, and how many times on end, nothing of a program may be seen to run: two minutes of a machine that itself runs. */
export interface Patience {
  readonly looks: number;
  readonly milliseconds: number;
}
const PATIENCE: Patience = { looks: 60, milliseconds: 2000 };

/**
 * Kills a program once all of its threads have slept for long, and none has done anything meanwhile. However slow the machine is, a thread
 * that has work is ready to run, or waits for a disk. Where the system does not tell (proc(5)), nothing is killed.
 * @returns whether it was killed, once it has ended
 */
export async function killIfIdle(child: ChildProcess, patience: Patience = PATIENCE): Promise<boolean> {
  let before: string | undefined;
  for (let looks = 0; looks < patience.looks; ) {
    await sleep(patience.milliseconds, undefined, { ref: false });
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return false;
    const now = restOf(child.pid);
    looks = now !== undefined && now === before ? looks + 1 : 0;
    before = now;
  }
  return child.kill('SIGKILL');
}

/** What the threads of a process have done so far; undefined where one of them does anything but sleep. */
function restOf(pid: number): string | undefined {
  try {
    const threads = readdirSync(`/proc/${pid}/task`).map((thread) => {
      const text = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1');
      // Behind the name, from field 3 on: the state; fields 14 and 15: processor time.
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      if (fields[0] !== 'S') throw new Error('it is at work');
      return `${thread} ${fields[11]} ${fields[12]}`;
    });
    return threads.join();
  } catch {
    return undefined;
  }
}
