// Reads what the bench program and compare_torch.py print.

const cellsOf = (line) =>
  line
    .replace(/^\||\|\s*$/g, '')
    .split('|')
    .map((cell) => cell.trim());

/** `12.5` → 12.5; undefined for a dash or nothing. */
function number(text) {
  const value = Number.parseFloat(text ?? '');
  return Number.isNaN(value) ? undefined : value;
}

/** `1234 ( 87%)` → 0.87 */
function share(text) {
  const percent = /\(\s*([\d.]+)\s*%\)/.exec(text ?? '')?.[1];
  return percent === undefined ? undefined : Number(percent) / 100;
}

/**
 * @param text the output of kernels/build/cuda/bench
 * @returns {{ card: string, copyRate?: number, uploadRate?: number, matrixRate?: number, failures?: number, rows: object[] }}
 *   rates in GB/s and TFLOP/s; a row for each case of the experts: { layout, model, dtype, routing, tokens, backend, isWrong, time,
 *   graphTime, shareOfCopy, shareOfMatrix }, times in microseconds
 */
export function parseBench(text) {
  const rows = [];
  let layout;
  for (const line of text.split('\n')) {
    layout = /^weights (\w+)/.exec(line)?.[1] ?? layout;
    if (layout === undefined || !/^\| \w+ \| (bfloat16|float16|float32) \|/.test(line)) continue;
    const [model, dtype, routing, tokens, backend, error, time, graphTime, bandwidth, products] =
      cellsOf(line);
    rows.push({
      ...{ layout, model, dtype, routing, backend },
      tokens: Number(tokens),
      isWrong: error.endsWith('WRONG'),
      ...{ time: number(time), graphTime: number(graphTime) },
      ...{ shareOfCopy: share(bandwidth), shareOfMatrix: share(products) },
    });
  }
  const found = (pattern) => number(pattern.exec(text)?.[1]);
  return {
    card: text.split('\n').find((line) => line.includes('compute capability')) ?? '',
    copyRate: found(/copy ([\d.]+) GB\/s/),
    uploadRate: found(/host to device ([\d.]+) GB\/s/),
    matrixRate: found(/matrix product ([\d.]+) TFLOP\/s/),
    failures: found(/^(\d+) failures/m),
    rows,
  };
}

/**
 * @param text the output of kernels/cuda/bench/compare_torch.py
 * @returns {{ model: string, tokens: number, times: Record<string, number | undefined> }[]} microseconds by column
 */
export function parseTorch(text) {
  const lines = text.split('\n').filter((line) => line.startsWith('|'));
  const header = lines.find((line) => line.startsWith('| model |'));
  if (header === undefined) return [];
  const names = cellsOf(header).slice(2);
  return lines
    .map(cellsOf)
    .filter(([, tokens]) => /^\d+$/.test(tokens))
    .map(([model, tokens, ...times]) => ({
      model,
      tokens: Number(tokens),
      times: Object.fromEntries(names.map((name, i) => [name, number(times[i])])),
    }));
}
