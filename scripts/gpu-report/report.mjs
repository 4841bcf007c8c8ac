// From the results of all steps to a Markdown report.
import { BACKENDS } from './session.mjs';

/**
 * @param report { setting: { card, driver, cuda, switchyard, node, os, cpu, date, model, dtype, isDemo, versions: string[] }, steps:
 *   [{ name, outcome: 'passed' | 'failed' | 'left out', detail }], goals: of goals.mjs, results: { session, bench, benchText, torchText,
 *   peersReport } }
 */
export function gpuReport({ setting, steps, goals, results }) {
  return [
    `# ${setting.card}\n`,
    describeSetting(setting),
    '## Goals\n',
    table(
      ['goal', 'measured', ''],
      goals.map(({ goal, measured, verdict }) => [goal, measured, verdict]),
    ),
    '## Steps\n',
    table(
      ['step', 'outcome', ''],
      steps.map(({ name, outcome, detail }) => [name, outcome, oneLine(detail)]),
    ),
    ...sessionSection(setting, results),
    ...section('Beside others', results.peersReport),
    ...section('Kernels', results.benchText && fenced(results.benchText)),
    ...section('Kernels of torch and transformers', results.torchText && fenced(results.torchText)),
  ].join('\n');
}

function describeSetting(setting) {
  const { card, driver, cuda, switchyard, node, os, cpu, date, versions } = setting;
  const parts = [
    card,
    `driver ${driver ?? 'unknown'}`,
    `CUDA ${cuda ?? 'unknown'}`,
    `Switchyard ${switchyard}`,
    ...versions,
    `Node ${node}`,
    os,
    cpu,
  ];
  return `${date}; ${parts.join(', ')}. Written by \`npm run report:gpu\`.\n`;
}

function sessionSection({ model, dtype, isDemo }, { session, bench }) {
  if (!session?.card && !session?.load) return [];
  const faults = Object.entries(session)
    .filter(([, { error }]) => error !== undefined)
    .map(([part, { error }]) => `- ${part} failed: ${oneLine(error)}`);
  return [
    `## A session with ${model}, ${dtype}\n`,
    ...(isDemo ? ['The demo model is tiny: its figures say that everything runs, and little more.\n'] : []),
    ...(faults.length > 0 ? [`${faults.join('\n')}\n`] : []),
    sessionFacts(session, bench)
      .map((line) => `- ${line}\n`)
      .join(''),
    speeds(session),
  ];
}

function sessionFacts({ card, load, recorded, switch: switched, memory }, bench) {
  const facts = [];
  if (card?.copyRate)
    facts.push(`copies within its memory: ${rate(card.copyRate)}, read and written bytes counted`);
  if (load?.rate) {
    const upload = bench?.uploadRate;
    const share =
      upload === undefined ? '' : `, ${percent(load.rate / 1e9 / upload)} of the copy rate of ${upload} GB/s`;
    facts.push(
      `load: ${load.seconds.toFixed(3)} s, ${(load.bytes / 1e9).toFixed(3)} GB of weights, ${rate(load.rate)}${share}`,
    );
    facts.push(`a decoded token reads ${(load.bytesPerToken / 1e9).toFixed(4)} GB of weights`);
  }
  if (recorded?.captures !== undefined) facts.push(`steps recorded: ${recorded.captures}`);
  for (const [mode, seconds] of Object.entries(switched?.extra ?? {}))
    facts.push(`switching backends, ${mode} steps: ${(1e3 * seconds).toFixed(3)} ms beyond a normal step`);
  if (memory?.before !== undefined) {
    const { steps, before, after } = memory;
    facts.push(
      `memory in use around ${steps} decode steps, plain and recorded: ${(before / 1e6).toFixed(1)} and ${(after / 1e6).toFixed(1)} MB`,
    );
  }
  return facts;
}

/** Tokens a second by backend; decoding also as a share of the copy rate. */
function speeds({ card, load, prefill, decode, recorded }) {
  const lengths = [
    ...new Set(BACKENDS.flatMap((name) => Object.keys(prefill?.seconds?.[name] ?? {}).map(Number))),
  ];
  const speed = (tokens, seconds) => (seconds === undefined ? '–' : digits(tokens / seconds));
  const share = (seconds) => {
    if (seconds === undefined || !load?.bytesPerToken || !card?.copyRate) return '–';
    return percent(load.bytesPerToken / seconds / card.copyRate);
  };
  const rows = BACKENDS.map((name) => {
    const [plain, replayed] = [decode?.seconds?.[name], recorded?.seconds?.[name]];
    return [
      name,
      ...lengths.map((tokens) => speed(tokens, prefill?.seconds?.[name]?.[tokens])),
      ...[speed(1, plain), share(plain), speed(1, replayed), share(replayed)],
    ];
  });
  const header = [
    'tokens/s',
    ...lengths.map((tokens) => `prefill ${tokens}`),
    ...['decode', 'of the copy rate', 'decode recorded', 'of the copy rate'],
  ];
  return table(header, rows);
}

function section(title, text) {
  return text ? [`## ${title}\n`, `${text.trim()}\n`] : [];
}

const fenced = (text) => `\`\`\`\n${text.trim()}\n\`\`\``;
/** For a cell of a table: what says most stands first. */
const oneLine = (text) => shortened((text ?? '').replaceAll('|', '/').replace(/\s+/g, ' ').trim());
const MOST_OF_CELL = 300;
const shortened = (text) => (text.length > MOST_OF_CELL ? `${text.slice(0, MOST_OF_CELL)} …` : text);
const percent = (part) => `${(100 * part).toFixed(0)} %`;
const rate = (bytes) => `${digits(bytes / 1e9)} GB/s`;

function digits(value) {
  if (value >= 100) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
}

function table(header, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return `${[header, header.map(() => '---'), ...rows].map(line).join('\n')}\n`;
}

/** Name of the file for a card: `NVIDIA H200` → `nvidia-h200.md`. */
export function reportName(card) {
  const name = card
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
  return `${name || 'unknown'}.md`;
}
