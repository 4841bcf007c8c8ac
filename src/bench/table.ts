/** Rows of cells as aligned text: the first column to the left, the others to the right. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, i) =>
    Math.max(...rows.map((row) => [...(row[i] ?? '')].length)),
  );
  return rows.map((row) => `${alignRow(row, widths)}\n`).join('');
}

function alignRow(row: readonly string[], widths: readonly number[]): string {
  const cells = row.map((cell, i) => {
    const filler = ' '.repeat((widths[i] as number) - [...cell].length);
    return i === 0 ? cell + filler : filler + cell;
  });
  return cells.join('   ').trimEnd();
}

/** 0.1234, 3.46, 56.7, 1234: three digits that mean something, never an exponent. */
export function digits(value: number): string {
  if (value === 0 || value >= 100) return value.toFixed(0);
  const decimals = 2 - Math.floor(Math.log10(value));
  return value.toFixed(Math.min(decimals, 6));
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}

/** 2280000 → `2.28 M`, to be followed by a unit. */
export function scaled(value: number): string {
  const prefixes = ['', 'k', 'M', 'G', 'T'];
  const step = value < 1000 ? 0 : Math.min(prefixes.length - 1, Math.floor(Math.log10(value) / 3));
  return `${digits(value / 1000 ** step)} ${prefixes[step]}`;
}
