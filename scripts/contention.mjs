// Measures what decoding keeps of its speed where others want the processors: beside endless loops, with more threads than processors, and
// under a CPU quota. Within a round every setting follows the undisturbed one, which it is divided by.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from './compare/job.mjs';
import { Server, warmFiles } from './compare/run-child.mjs';
import { bundleInnerModules } from './modules/inner.mjs';

const USAGE = `Usage: node scripts/contention.mjs --model DIR [options]

  --model DIR    checkpoint; scripts/compare/make_checkpoint.py writes one of real shape
  --rounds N     times to measure; medians count (5)
  --new N        tokens to decode (48)
  --loops A,B    endless loops beside it (1,2,4)
  --times N      threads for each processor, in the second setting (8)

A quota needs leave to make a control group, version 1 or 2.
`;
const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    new: { type: 'string', default: '48' },
    loops: { type: 'string', default: '1,2,4' },
    times: { type: 'string', default: '8' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help || values.model === undefined) {
  process.stderr.write(USAGE);
  process.exit(values.help ? 0 : 2);
}

const processors = availableParallelism();
const model = resolve(values.model);
const newTokens = Number(values.new);
const PERIOD = 100_000;
const TIMED = fileURLToPath(new URL('compare/switchyard.mjs', import.meta.url));

/** A control group with so many processors' time; undefined where none may be made. */
function makeQuota(cpus) {
  const settings = [
    ['/sys/fs/cgroup/cpu', 'cpu.cfs_quota_us', String(cpus * PERIOD)],
    ['/sys/fs/cgroup', 'cpu.max', `${cpus * PERIOD} ${PERIOD}`],
  ];
  for (const [hierarchy, file, quota] of settings) {
    const group = join(hierarchy, `switchyard-${process.pid}`);
    try {
      mkdirSync(group);
    } catch {
      continue;
    }
    if (existsSync(join(group, file))) {
      writeFileSync(join(group, file), quota);
      return group;
    }
    rmdirSync(group);
  }
  return undefined;
}

/** Threads that nobody counted are the default. */
async function startModel(threads, group) {
  const job = { task: 'serve', model, device: 'cpu', threads, dtype: 'bfloat16', prompts: [16], newTokens };
  const command = [process.execPath, TIMED, JSON.stringify(job)];
  if (group === undefined) return Server.start(command[0], command.slice(1));
  const enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"';
  return Server.start('sh', ['-c', enter, group, ...command]);
}

async function tokensPerSecond(server) {
  const { mean } = await server.ask({ decode: newTokens, backend: 'grouped_mm' });
  return 1 / mean;
}

/** Runs `work` beside so many endless loops. */
async function beside(loops, work) {
  const children = Array.from({ length: loops }, () => spawn(process.execPath, ['-e', 'for (;;);']));
  try {
    await new Promise((done) => setTimeout(done, 300));
    return await work();
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(children.map((child) => child.exitCode ?? child.signalCode ?? once(child, 'exit')));
  }
}

await bundleInnerModules();
await warmFiles(model);
const half = Math.max(1, Math.floor(processors / 2));
const group = makeQuota(half);
const servers = {
  own: await startModel(undefined),
  many: await startModel(processors * Number(values.times)),
  half: await startModel(half),
  quota: group && (await startModel(undefined, group)),
};
const ratios = new Map();
const keep = (name, ratio) => ratios.set(name, [...(ratios.get(name) ?? []), ratio]);
try {
  for (let round = 1; round <= Number(values.rounds); round++) {
    const quiet = await tokensPerSecond(servers.own);
    process.stderr.write(`round ${round}: ${quiet.toFixed(1)} tokens/s, load ${loadavg()[0].toFixed(1)}\n`);
    for (const loops of values.loops.split(',').map(Number)) {
      const speed = await beside(loops, () => tokensPerSecond(servers.own));
      const share = processors / (processors + loops);
      keep(`beside ${loops} loops, of the fair share ${share.toFixed(2)}`, speed / quiet / share);
    }
    keep(
      `${values.times} × the processors' threads`,
      (await tokensPerSecond(servers.many)) / (await tokensPerSecond(servers.own)),
    );
    if (servers.quota)
      keep(
        `a quota of ${half}, of ${half} threads' speed`,
        (await tokensPerSecond(servers.quota)) / (await tokensPerSecond(servers.half)),
      );
  }
} finally {
  for (const server of Object.values(servers)) await server?.stop();
  if (group) rmdirSync(group);
}
for (const [name, list] of ratios) {
  const [least, most] = [Math.min(...list), Math.max(...list)].map((ratio) => ratio.toFixed(2));
  process.stdout.write(`${name}: ${median(list).toFixed(2)} (${least}–${most})\n`);
}
