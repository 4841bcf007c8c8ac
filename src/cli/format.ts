/** 14315784192 → `14.3 billion`; numbers below a million in full. */
export function formatCount(count: number): string {
  if (count < 1e6) return String(count);
  const [unit, name] = count >= 1e9 ? [1e9, 'billion'] : [1e6, 'million'];
  const value = count / unit;
  return `${value >= 100 ? Math.round(value) : value.toPrecision(3)} ${name}`;
}
