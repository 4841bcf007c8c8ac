// From the results of all turns to a Markdown report.
import { cpus, release, totalmem, type } from 'node:os';
import { median, RECORDED } from './job.mjs';

/** What stands for Switchyard in the ratios: its default backend. */
export const OURS = { peer: 'Switchyard', backend: 'grouped_mm' };

/**
 * @param results { starts: { [peer]: seconds[] }, duels: [{ hellos: { [peer]: hello }, turns: [{ results: { [peer]: [{ name,
 *   prefill: { [length]: seconds }, decode, tokens? }] }, machine: { read, pattern, gigaflops } }] }] }; see job.mjs for hello
 * @param work { model, device, dtype, threads, prompts, newTokens, bytesPerToken, flops: { [length]: operations } }
 */
export function textReport({ starts, duels }, work) {
  const ratios = ratioRows(starts, duels, work);
  const ratioHeader = ['Ratios, turn by turn', 'first token', ...measures(work).map(({ label }) => label)];
  const turns = duels.flatMap((duel) => duel.turns);
  const versions = duels.flatMap(({ hellos }) => Object.values(hellos)).map(({ version }) => version);
  return [
    ...heading(work, versions),
    `Medians, with least and most in brackets, of ${Math.max(...Object.values(starts).map(({ length }) => length))} process ` +
      `starts and ${duels[0].turns.length} turns; in each turn both run every measure one after the other.\n`,
    table(speedHeader(work), speedRows(starts, duels, work)),
    ...(ratios.length > 0 ? [table(ratioHeader, ratios)] : []),
    ...recordedNotes(duels),
    work.device?.startsWith('cuda') ? deviceNotes(turns, work) : machineNotes(turns, work),
    agreement(duels),
  ].join('\n');
}

/** @param rounds one entry a round: { peers: { [peer]: { vision } } } */
export function visionReport(rounds, { model, dtype, threads, grid }) {
  const pick = (peer) => rounds.map(({ peers }) => peers[peer]?.vision).filter(Boolean);
  const ours = pick('Switchyard');
  const theirs = pick('transformers');
  const rows = [
    ['Switchyard', ours],
    ['transformers', theirs],
  ].filter(([, results]) => results.length > 0);
  const lines = rows.map(([name, results]) => [
    name,
    range(results.map(({ load }) => load)),
    range(results.map(({ seconds }) => seconds)),
  ]);
  const ratio = theirs.length > 0 && median(ours.map((own, i) => theirs[i].seconds / own.seconds));
  const norms = theirs.length > 0 && ours[0].norm / theirs[0].norm;
  return [
    ...heading(
      { model, dtype, threads },
      [...ours, ...theirs].map(({ version }) => version),
    ),
    `Medians of ${rounds.length} interleaved ${rounds.length === 1 ? 'round' : 'rounds'}, with least and most in brackets. ` +
      `One picture of ${grid[1] * 16} × ${grid[2] * 16} pixels: ${grid[0] * grid[1] * grid[2]} patches through the vision tower.\n`,
    table(['', 'load s', 'vision tower s'], lines),
    ...(ratio
      ? [
          `Switchyard is ${ratio.toFixed(2)} × as fast as transformers; the norms of both outputs stand as ${norms.toFixed(4)} : 1.\n`,
        ]
      : []),
  ].join('\n');
}

function heading({ model, dtype, threads }, versions) {
  const cpu = cpus();
  const machine = [
    cpu[0]?.model.trim() ?? 'unknown CPU',
    `${cpu.length} CPUs`,
    `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    `${type()} ${release()}`,
    `Node ${process.versions.node}`,
  ];
  return [
    `### ${model}, ${dtype}, ${threads} ${threads === 1 ? 'thread' : 'threads'}\n`,
    `${new Date().toISOString().slice(0, 10)}; ${machine.join(', ')}; ${[...new Set(versions)].join(', ')}.\n`,
  ];
}

/** What is compared in turns: how to read it off one backend's result. */
function measures({ prompts }) {
  return [
    ...prompts.map((tokens) => ({
      label: `prefill ${tokens}`,
      tokens,
      seconds: ({ prefill }) => prefill[tokens],
    })),
    { label: 'decode', tokens: 1, seconds: ({ decode }) => decode },
  ];
}

function speedHeader(work) {
  const speeds = measures(work).map(({ label }) => `${label} tok/s`);
  return ['', 'load s', 'first token s', ...speeds, 'own memory MB', 'mapped GB'];
}

function speedRows(starts, duels, work) {
  return contenders(duels).map(({ peer, backend, isFirst }) => {
    const hellos = duels.map((duel) => duel.hellos[peer]).filter(Boolean);
    const once = (values) => (isFirst ? range(values) : '');
    const results = resultsOf(duels, peer, backend);
    const speeds = measures(work).map(({ tokens, seconds }) =>
      range(results.map((result) => seconds(result)).map((time) => time && tokens / time)),
    );
    return [
      peer === backend ? peer : `${peer} ${backend}`,
      once(hellos.map(({ load }) => load)),
      once(starts[peer] ?? []),
      ...speeds,
      once(hellos.map(({ memory }) => memory && memory.own / 1e6)),
      once(hellos.map(({ memory }) => memory && memory.mapped / 1e9)),
    ];
  });
}

/** What one backend did in all turns. */
function resultsOf(duels, peer, backend) {
  const turns = duels.flatMap((duel) => duel.turns);
  return turns.flatMap(({ results }) => results[peer] ?? []).filter(({ name }) => name === backend);
}

/** Every backend of every peer. */
function contenders(duels) {
  const list = [];
  for (const { results } of duels.flatMap((duel) => duel.turns)) {
    for (const [peer, backends] of Object.entries(results)) {
      for (const [i, { name }] of backends.entries()) {
        if (list.some((known) => known.peer === peer && known.backend === name)) continue;
        list.push({ peer, backend: name, isFirst: i === 0 });
      }
    }
  }
  return list;
}

/** How many times as fast Switchyard is, within each turn: the machine's mood is about the same there. */
function ratioRows(starts, duels, work) {
  return duels.flatMap(({ turns, hellos }) => {
    const peer = Object.keys(hellos).find((key) => key !== OURS.peer);
    if (peer === undefined) return [];
    const ratios = measures(work).map(({ seconds }) =>
      turns.map(({ results }) => {
        const times = results[peer].map(seconds).filter(Boolean);
        return Math.min(...times) / seconds(results[OURS.peer].find(({ name }) => name === OURS.backend));
      }),
    );
    const first = (starts[peer] ?? []).map((time, i) => time / starts[OURS.peer][i]);
    const isOneOfSeveral = turns.some(({ results }) => results[peer].length > 1);
    const name = `Switchyard ÷ ${isOneOfSeveral ? `the best of ${peer}` : peer}`;
    return [[name, ...[first, ...ratios].map((list) => (list.length > 0 ? `${range(list)} ×` : '–'))]];
  });
}

/**
 * How many times as fast as the best backend of each peer a backend of Switchyard decodes, turn by turn.
 * @returns {{ peer: string, ratios: number[] }[]}
 */
export function decodeRatios(duels, backend) {
  return duels.flatMap(({ turns, hellos }) => {
    const peer = Object.keys(hellos).find((key) => key !== OURS.peer);
    if (peer === undefined) return [];
    const ratios = turns.flatMap(({ results }) => {
      const ours = results[OURS.peer].find(({ name }) => name === backend);
      return ours ? [Math.min(...results[peer].map(({ decode }) => decode)) / ours.decode] : [];
    });
    return ratios.length > 0 ? [{ peer, ratios }] : [];
  });
}

function recordedNotes(duels) {
  const backend = `${OURS.backend}${RECORDED}`;
  const parts = decodeRatios(duels, backend).map(
    ({ peer, ratios }) => `${range(ratios)} × as fast as ${peer}`,
  );
  if (parts.length === 0) return [];
  return [`With recorded steps Switchyard ${OURS.backend} decodes ${parts.join(' and ')}.\n`];
}

/** Decoding beside the copy rate of the GPU's memory. */
function deviceNotes(turns, { bytesPerToken }) {
  const copy = Math.max(...turns.map(({ machine }) => machine.read));
  const names = [OURS.backend, `${OURS.backend}${RECORDED}`];
  const rates = names.flatMap((backend) => {
    const ours = turns.map(({ results }) => results[OURS.peer].find(({ name }) => name === backend));
    if (!ours.every(Boolean)) return [];
    const shares = ours.map(({ decode }) => (100 * bytesPerToken) / decode / 1e9 / copy);
    return [`${backend} reaches ${range(shares)} %`];
  });
  return (
    `A decoded token reads ${(bytesPerToken / 1e9).toFixed(3)} GB of weights: of the rate of copies within the GPU's memory ` +
    `(${copy.toFixed(0)} GB/s) ${rates.join(', ')}.\n`
  );
}

function machineNotes(turns, { prompts, bytesPerToken, flops }) {
  const best = turns.map(({ machine }) => machine).reduce((a, b) => (a.read >= b.read ? a : b));
  const gigaflops = Math.max(...turns.map(({ machine }) => machine.gigaflops));
  const ours = turns.map(({ results }) => results[OURS.peer].find(({ name }) => name === OURS.backend));
  const rates = ours.map(({ decode }) => bytesPerToken / decode / 1e9);
  const shares = turns.map(({ machine }, i) => (100 * rates[i]) / machine.read);
  const products = prompts.map((tokens) => {
    const speed = median(ours.map(({ prefill }) => flops[tokens] / prefill[tokens] / 1e9));
    return `${speed.toFixed(0)} GFLOP/s at ${tokens} tokens`;
  });
  return (
    `A decoded token reads ${(bytesPerToken / 1e9).toFixed(3)} GB of weights: Switchyard ${OURS.backend} reads ` +
    `${range(rates)} GB/s, ${range(shares)} % of the best read rate any access pattern reached right after ` +
    `(at most ${best.read.toFixed(1)} GB/s, ${best.pattern}). Its prefill does ${products.join(' and ')}; the best matrix ` +
    `product in cache reached ${gigaflops.toFixed(0)} GFLOP/s.\n`
  );
}

/** How many tokens of the greedy continuation agree from the start: a check that all computed the same thing. */
function agreement(duels) {
  const tokensOf = ({ peer, backend }) => resultsOf(duels, peer, backend)[0].tokens;
  const reference = tokensOf(OURS);
  const counts = contenders(duels)
    .filter(({ peer, backend }) => peer !== OURS.peer || backend !== OURS.backend)
    .filter((contender) => tokensOf(contender) !== undefined)
    .map((contender) => {
      const tokens = tokensOf(contender);
      const differs = tokens.findIndex((token, i) => token !== reference[i]);
      const { peer, backend } = contender;
      return `${peer === backend ? peer : `${peer} ${backend}`} ${differs < 0 ? tokens.length : differs}`;
    });
  if (counts.length === 0) return '';
  return `Of ${reference.length} greedy tokens, the first so many agree with Switchyard ${OURS.backend}: ${counts.join(', ')}.\n`;
}

function table(header, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const rule = header.map((_, i) => (i === 0 ? '---' : '---:'));
  return `${[header, rule, ...rows].map(line).join('\n')}\n`;
}

function range(values) {
  const known = values.filter((value) => value !== undefined && value !== null);
  if (known.length === 0) return '–';
  const [least, most] = [Math.min(...known), Math.max(...known)];
  return least === most ? digits(least) : `${digits(median(known))} (${digits(least)}–${digits(most)})`;
}

function digits(value) {
  if (value >= 100) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1);
  return value.toFixed(value >= 1 ? 2 : 3);
}
