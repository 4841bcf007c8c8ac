/**
 * @param tarball of the package under test
 * @param cache folder to keep downloads in
 */
export function openRegistry(
  tarball: string,
  cache: string,
): Promise<{ readonly url: string; readonly close: () => void }>;
