/** Routing statistics as one page of HTML that asks for nothing else. */
import type { RoutingFile } from './file.ts';
import { chosen, type LayerDifference, type RoutingStatistics } from './statistics.ts';
import { cacheSizes } from './summary.ts';

/** Tokens whose experts the page can show one by one. */
const MOST_TOKENS = 4096;

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
const escaped = (text: unknown) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** @param second with what it differs in, where two files are compared */
export function routingPage(
  file: RoutingFile,
  statistics: RoutingStatistics,
  second?: { statistics: RoutingStatistics; differences: readonly LayerDifference[] | undefined },
): string {
  const { header } = statistics;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Routing of ${escaped(header.model)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>Routing of ${escaped(header.model)}</h1>
${overview(statistics)}
<h2>Load</h2>
<p>Tokens by layer (rows) and expert (columns); each row from none to its busiest expert.</p>
<canvas id="load" role="img" aria-label="Heat map of tokens by layer and expert; the table below has its figures"></canvas>
<p id="under" aria-live="polite">&nbsp;</p>
${loadTable(statistics)}
<h2>What a cache of experts would find</h2>
${curve(statistics.hitRate)}
${table(
  'Share of the uses of experts',
  ['experts a layer', 'found'],
  cacheSizes(statistics).map(({ experts, rate }) => [experts, percent(rate)]),
)}
<h2>What pinned experts would serve</h2>
${table(
  'Share of the reads of experts that go to the busiest of all layers',
  ['experts', 'memory', 'reads'],
  statistics.pinning.map(({ experts, bytes, share }) => [experts, megabytes(bytes), percent(share)]),
)}
<h2>Working set</h2>
${table(
  'Different experts a layer that tokens in a row need',
  ['tokens', 'experts'],
  statistics.workingSet.map(({ tokens, experts }) => [tokens, experts.toFixed(1)]),
)}
<h2>Rows decoded together</h2>
${batches(statistics)}
<h2>A token's experts</h2>
<p><label>Token <input id="token" type="number" min="0" value="0"></label> <span id="which"></span></p>
<table><caption>Its experts, best first</caption><thead><tr><th scope="col">layer</th><th scope="col">experts</th></tr></thead><tbody id="chosen"></tbody></table>
${second ? comparison(second) : ''}
</main>
<script type="application/json" id="data">${dataOf(file, statistics)}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function overview({ header, requests, passes, tokens }: RoutingStatistics): string {
  const facts: [string, unknown][] = [
    ['model type', header.modelType],
    ['precision', header.dtype],
    ['backend', header.backend],
    ['layers that route', header.layers.length],
    ['experts a layer', header.experts],
    ['experts a token', header.perToken],
    ['bytes of an expert', megabytes(header.expertBytes)],
    ['requests', requests],
    ['passes', passes],
    ['tokens of prompts', tokens.prefill],
    ['tokens after them', tokens.decode],
  ];
  return `<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${escaped(value)}</dd>`).join('')}</dl>`;
}

function loadTable({ layers }: RoutingStatistics): string {
  const rows = layers.map(({ layer, entropy, jain, dead }) => [
    layer,
    entropy.toFixed(4),
    jain.toFixed(4),
    dead,
  ]);
  return table(
    'Evenness',
    ['layer', 'entropy (1 is even)', 'Jain index (1 is even)', 'unused experts'],
    rows,
  );
}

function batches({ batches, bytes }: RoutingStatistics): string {
  if (batches.length === 0) return '<p>There are no passes of decoding rows alone.</p>';
  const rows = batches.map(({ rows, passes, distinct, expected }) => [
    rows,
    passes,
    distinct.toFixed(2),
    expected.toFixed(2),
  ]);
  const caption = 'Different experts that a layer of a pass needs';
  return `${table(caption, ['rows', 'passes', 'experts', 'by chance'], rows)}
<p>Experts read a pass: ${megabytes(bytes.perPass)}; by chance ${megabytes(bytes.expected)}.</p>`;
}

function comparison({
  statistics: { header },
  differences,
}: {
  statistics: RoutingStatistics;
  differences: readonly LayerDifference[] | undefined;
}): string {
  const title = `<h2>Against ${escaped(header.model)} (${escaped(header.dtype)}, ${escaped(header.backend)})</h2>`;
  if (!differences) return `${title}<p>It has other layers or experts; the files cannot be compared.</p>`;
  const rows = differences.map(({ layer, divergence, agreement }) => [
    layer,
    divergence.toFixed(4),
    agreement === undefined ? '–' : percent(agreement),
  ]);
  const names = ['layer', 'divergence of the loads (bits)', 'same choice for the same token'];
  return title + table('By layer', names, rows);
}

function table(caption: string, names: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const head = names.map((name) => `<th scope="col">${escaped(name)}</th>`).join('');
  const body = rows.map((cells) => `<tr>${cells.map((cell) => `<td>${escaped(cell)}</td>`).join('')}</tr>`);
  return `<table><caption>${escaped(caption)}</caption><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

/** Hit rate over the number of experts kept, as a line. */
function curve(rates: Float64Array): string {
  const [width, height] = [600, 160];
  const points = [...rates]
    .map((rate, n) => `${((n / (rates.length - 1)) * width).toFixed(1)},${(height * (1 - rate)).toFixed(1)}`)
    .join(' ');
  return `<svg viewBox="-2 -2 ${width + 4} ${height + 4}" role="img" aria-label="Share of uses found, by experts kept a layer"><path d="M0 0V${height}H${width}"/><polyline points="${points}"/></svg>`;
}

/** What the script draws: loads, and the experts of the first tokens. */
function dataOf({ header, records }: RoutingFile, { layers }: RoutingStatistics): string {
  const tokens: { request: number; place: number; experts: number[][] }[] = [];
  for (const record of records)
    for (let token = 0; token < record.tokens && tokens.length < MOST_TOKENS; token++)
      tokens.push({
        request: record.request,
        place: record.start + token,
        experts: header.layers.map((_, place) => [...chosen(header, record, token, place)]),
      });
  const data = { layers: header.layers, load: layers.map((load) => [...load.tokens]), tokens };
  // A closing tag inside would end the element.
  return JSON.stringify(data).replaceAll('<', '\\u003c');
}

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1b1b1f, #e6e6ea); --paper: light-dark(#fff, #16161a); --line: light-dark(#c9c9d1, #44444f); --mark: light-dark(#0b57d0, #8ab4ff); }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
main { max-width: 70rem; margin: 0 auto; padding: 1rem 1.5rem 3rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; } dd { margin: 0; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; } th, td { text-align: right; padding: .1rem .8rem; border-bottom: 1px solid var(--line); }
canvas { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
svg { width: 100%; max-width: 40rem; } path { fill: none; stroke: var(--line); } polyline { fill: none; stroke: var(--mark); stroke-width: 2; }
`;

const SCRIPT = `
const data = JSON.parse(document.getElementById('data').textContent);
const canvas = document.getElementById('load');
const rows = data.load.length, columns = data.load[0].length;
canvas.width = columns; canvas.height = rows;
canvas.style.aspectRatio = columns + ' / ' + Math.max(rows, columns / 8);
const paint = canvas.getContext('2d');
data.load.forEach((loads, row) => {
  const most = Math.max(1, ...loads);
  loads.forEach((tokens, column) => {
    paint.fillStyle = 'hsl(215 90% ' + (95 - 75 * tokens / most) + '%)';
    paint.fillRect(column, row, 1, 1);
  });
});
canvas.addEventListener('mousemove', (event) => {
  const box = canvas.getBoundingClientRect();
  const row = Math.min(rows - 1, Math.floor((event.clientY - box.top) / box.height * rows));
  const column = Math.min(columns - 1, Math.floor((event.clientX - box.left) / box.width * columns));
  document.getElementById('under').textContent = 'layer ' + data.layers[row] + ', expert ' + column + ': ' + data.load[row][column] + ' tokens';
});
const input = document.getElementById('token');
input.max = data.tokens.length - 1;
function show() {
  const token = data.tokens[input.value];
  document.getElementById('which').textContent = token ? 'request ' + token.request + ', place ' + token.place : 'there is no such token';
  document.getElementById('chosen').replaceChildren(...(token ? token.experts : []).map((experts, i) => {
    const row = document.createElement('tr');
    for (const text of [data.layers[i], experts.join(', ') || 'not computed']) {
      const cell = document.createElement('td');
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
}
input.addEventListener('input', show);
show();
`;
