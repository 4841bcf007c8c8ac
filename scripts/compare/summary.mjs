// From the results of all rounds to a Markdown report.
import { cpus, release, totalmem, type } from 'node:os';
import { median } from './job.mjs';

/** The backend that stands for Switchyard in the ratios: its default. */
const OURS = 'grouped_mm';

/**
 * @param rounds one entry a round: { machine, peers: { [peer]: { text?, first? } } }
 * @param work { model, dtype, threads, prompts, newTokens, bytesPerToken, flops: { [length]: operations } }
 */
export function textReport(rounds, work) {
  const ratios = ratioRows(rounds, work);
  const ratioHeader = ['Ratios, round by round', ...measures(work).map(({ label }) => label)];
  return [
    ...heading(work.model, rounds, work),
    table(speedHeader(work), speedRows(rounds, work)),
    ...(ratios.length > 0 ? [table(ratioHeader, ratios)] : []),
    machineNotes(rounds, work),
    agreement(rounds),
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
    ...heading(model, rounds, { dtype, threads }),
    `One picture of ${grid[1] * 16} × ${grid[2] * 16} pixels: ${grid[0] * grid[1] * grid[2]} patches through the vision tower.\n`,
    table(['', 'load s', 'vision tower s'], lines),
    ...(ratio
      ? [
          `Switchyard is ${ratio.toFixed(2)} × as fast as transformers; the norms of both outputs stand as ${norms.toFixed(4)} : 1.\n`,
        ]
      : []),
  ].join('\n');
}

function heading(model, rounds, { dtype, threads }) {
  const results = rounds.flatMap(({ peers }) => Object.values(peers));
  const versions = new Set(
    results.flatMap(({ text, vision }) => [text?.version, vision?.version]).filter(Boolean),
  );
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
    `${new Date().toISOString().slice(0, 10)}; ${machine.join(', ')}; ${[...versions].join(', ')}. ` +
      `Medians of ${rounds.length} interleaved ${rounds.length === 1 ? 'round' : 'rounds'}, with least and most in brackets.\n`,
  ];
}

/** What is compared: how to read it off a peer's round, and whether more is better. */
function measures({ prompts }) {
  return [
    { label: 'first token', seconds: ({ first }) => first },
    ...prompts.map((tokens) => ({
      label: `prefill ${tokens}`,
      tokens,
      seconds: ({ text }, backend) => find(text, backend)?.prefill[tokens],
    })),
    { label: 'decode', tokens: 1, seconds: ({ text }, backend) => find(text, backend)?.decode },
  ];
}

const find = (text, backend) => text?.backends.find(({ name }) => name === backend);

function speedHeader(work) {
  const speeds = measures(work).map(({ label, tokens }) => `${label} ${tokens ? 'tok/s' : 's'}`);
  return ['', 'load s', ...speeds, 'own memory MB', 'mapped GB'];
}

function speedRows(rounds, work) {
  return contenders(rounds).map(({ peer, backend, isFirst }) => {
    const results = rounds.map(({ peers }) => peers[peer]).filter(Boolean);
    const once = (pick) => (isFirst ? range(results.map(pick)) : '');
    const speeds = measures(work).map(({ tokens, seconds }) => {
      if (!tokens) return once((result) => seconds(result));
      const times = results.map((result) => seconds(result, backend));
      return range(times.map((time) => time && tokens / time));
    });
    return [
      peer === backend ? peer : `${peer} ${backend}`,
      once(({ text }) => text.load),
      ...speeds,
      once(({ text }) => text.memory.own / 1e6),
      once(({ text }) => text.memory.mapped / 1e9),
    ];
  });
}

/** Every backend of every peer. */
function contenders(rounds) {
  const list = [];
  for (const { peers } of rounds) {
    for (const [peer, { text }] of Object.entries(peers)) {
      for (const [i, { name }] of text.backends.entries()) {
        if (list.some((known) => known.peer === peer && known.backend === name)) continue;
        list.push({ peer, backend: name, isFirst: i === 0 });
      }
    }
  }
  return list;
}

/** How many times as fast Switchyard is, within each round: the machine's mood is about the same there. */
function ratioRows(rounds, work) {
  const opponents = [...new Set(contenders(rounds).map(({ peer }) => peer))].filter(
    (peer) => peer !== 'Switchyard',
  );
  return opponents.map((peer) => [
    `Switchyard ÷ ${peer === 'transformers' ? 'the best of transformers' : peer}`,
    ...measures(work).map(({ seconds }) => {
      const ratios = rounds.map(({ peers }) => {
        const names = peers[peer].text.backends.map(({ name }) => name);
        const times = names.map((name) => seconds(peers[peer], name)).filter(Boolean);
        return Math.min(...times) / seconds(peers.Switchyard, OURS);
      });
      return `${median(ratios).toFixed(2)} ×`;
    }),
  ]);
}

function machineNotes(rounds, { prompts, bytesPerToken, flops }) {
  const best = rounds.map(({ machine }) => machine).reduce((a, b) => (a.read >= b.read ? a : b));
  const gigaflops = Math.max(...rounds.map(({ machine }) => machine.gigaflops));
  const ours = rounds.map(({ peers }) => find(peers.Switchyard.text, OURS));
  const rate = median(ours.map(({ decode }) => bytesPerToken / decode / 1e9));
  const ofRead = median(rounds.map(({ machine }, i) => bytesPerToken / ours[i].decode / 1e9 / machine.read));
  const products = prompts.map((tokens) => {
    const speed = median(ours.map(({ prefill }) => flops[tokens] / prefill[tokens] / 1e9));
    return `${speed.toFixed(0)} GFLOP/s at ${tokens} tokens`;
  });
  return (
    `A decoded token reads ${(bytesPerToken / 1e9).toFixed(3)} GB of weights: Switchyard ${OURS} reads ${rate.toFixed(1)} GB/s, ` +
    `${(100 * ofRead).toFixed(0)}% of the best read rate any access pattern reached in the same round ` +
    `(at most ${best.read.toFixed(1)} GB/s, ${best.pattern}). Its prefill does ${products.join(' and ')}; the best matrix ` +
    `product in cache reached ${gigaflops.toFixed(0)} GFLOP/s.\n`
  );
}

/** How many tokens of the greedy continuation agree from the start: a check that all computed the same thing. */
function agreement(rounds) {
  const [{ peers }] = rounds;
  const reference = find(peers.Switchyard.text, OURS).tokens;
  const counts = contenders(rounds)
    .filter(({ peer, backend }) => peer !== 'Switchyard' || backend !== OURS)
    .map(({ peer, backend }) => {
      const { tokens } = find(peers[peer].text, backend);
      const differs = tokens.findIndex((token, i) => token !== reference[i]);
      return `${peer === backend ? peer : `${peer} ${backend}`} ${differs < 0 ? tokens.length : differs}`;
    });
  return `Of ${reference.length} greedy tokens, the first so many agree with Switchyard ${OURS}: ${counts.join(', ')}.\n`;
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
