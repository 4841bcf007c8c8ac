/** 5342104 → `5.34 MB`: decimal units, as the Hub shows them. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  const step = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${step === 0 ? bytes : (bytes / 1000 ** step).toFixed(2)} ${units[step]}`;
}

/** 14315784192 → `14.3 billion`; numbers below a million in full. */
export function formatCount(count: number): string {
  if (count < 1e6) return String(count);
  const [unit, name] = count >= 1e9 ? [1e9, 'billion'] : [1e6, 'million'];
  const value = count / unit;
  return `${value >= 100 ? Math.round(value) : value.toPrecision(3)} ${name}`;
}
