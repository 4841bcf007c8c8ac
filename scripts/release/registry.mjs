// A registry on loopback that knows one package of its own and takes all others from the registry that npm is set to. What it fetched it
// keeps, so that several package managers cost one download.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';

/**
 * @param {string} tarball of the package under test
 * @param {string} cache folder to keep downloads in
 * @returns {Promise<{ url: string, close: () => void }>}
 */
export async function openRegistry(tarball, cache) {
  const upstream = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' })
    .trim()
    .replace(/\/$/, '');
  mkdirSync(cache, { recursive: true });
  const server = createServer(async (request, response) => {
    try {
      const { type, body } = await answer(new URL(request.url, base()).pathname);
      response.writeHead(200, { 'content-type': type }).end(body);
    } catch (error) {
      response.writeHead(error.status ?? 502, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: String(error.message) }));
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const base = () => `http://127.0.0.1:${server.address().port}`;
  const own = JSON.parse(
    execFileSync('tar', ['-xzOf', tarball, 'package/package.json'], { encoding: 'utf8' }),
  );

  async function answer(path) {
    const name = decodeURIComponent(path.slice(1));
    if (name === own.name) return { type: 'application/json', body: JSON.stringify(ownDocument()) };
    if (path === `/${own.name}/-/${basename(tarball)}`)
      return { type: 'application/octet-stream', body: readFileSync(tarball) };
    if (path.endsWith('.tgz')) return { type: 'application/octet-stream', body: await kept(path) };
    const text = await fetched(path, 'application/json').then((bytes) => bytes.toString());
    return { type: 'application/json', body: text.replaceAll(`${upstream}/`, `${base()}/`) };
  }

  function ownDocument() {
    const bytes = readFileSync(tarball);
    const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
    const shasum = createHash('sha1').update(bytes).digest('hex');
    const dist = { tarball: `${base()}/${own.name}/-/${basename(tarball)}`, integrity, shasum };
    return {
      name: own.name,
      'dist-tags': { latest: own.version },
      versions: { [own.version]: { ...own, _id: `${own.name}@${own.version}`, dist } },
      // Package managers refuse what is younger than some age.
      time: { [own.version]: '2020-01-01T00:00:00.000Z' },
    };
  }

  async function kept(path) {
    const file = join(cache, createHash('sha256').update(path).digest('hex'));
    if (!existsSync(file)) {
      const temporary = `${file}.${process.pid}`;
      writeFileSync(temporary, await fetched(path, '*/*'));
      renameSync(temporary, file);
    }
    return readFileSync(file);
  }

  async function fetched(path, accept) {
    const response = await fetch(`${upstream}${path}`, { headers: { accept } });
    if (!response.ok)
      throw Object.assign(new Error(`${path}: ${response.status}`), { status: response.status });
    return Buffer.from(await response.arrayBuffer());
  }

  return { url: base(), close: () => server.close() };
}
