/** The C library of this process, on which prebuilt files depend. */

export interface Libc {
  readonly name: 'glibc' | 'musl';
  /** Of glibc, such as `2.36`; Node does not tell that of musl. */
  readonly version: string | undefined;
}

/** Undefined off Linux. Takes some milliseconds. */
export function libc(): Libc | undefined {
  if (process.platform !== 'linux') return undefined;
  // Otherwise the report asks the network for the names of open connections.
  (process.report as { excludeNetwork?: boolean }).excludeNetwork = true;
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const version = header.glibcVersionRuntime;
  return version === undefined ? { name: 'musl', version } : { name: 'glibc', version };
}
