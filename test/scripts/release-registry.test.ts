import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { releaseFaults } from '../../scripts/release/changelog.mjs';
import { openRegistry } from '../../scripts/release/registry.mjs';

describe('the registry that releases are tried from', () => {
  let folder: string;
  let upstream: Server;
  let asked: string[];
  let registry: Awaited<ReturnType<typeof openRegistry>>;
  let tarball: string;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'switchyard-registry-'));
    mkdirSync(join(folder, 'package'));
    writeFileSync(
      join(folder, 'package/package.json'),
      '{ "name": "tried", "version": "1.2.3", "bin": "x.js" }',
    );
    tarball = join(folder, 'tried-1.2.3.tgz');
    execFileSync('tar', ['-czf', tarball, '-C', folder, 'package']);
    asked = [];
    upstream = createServer(({ url = '' }, response) => {
      asked.push(url);
      const home = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
      if (url === '/other') response.end(JSON.stringify({ tarball: `${home}/other/-/other-1.0.0.tgz` }));
      else if (url === '/other/-/other-1.0.0.tgz') response.end('bytes');
      else response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    vi.stubEnv('npm_config_registry', `http://127.0.0.1:${(upstream.address() as AddressInfo).port}/`);
    registry = await openRegistry(tarball, join(folder, 'kept'));
  });
  afterEach(() => {
    registry.close();
    upstream.close();
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  test('has the package as it lies in the tarball', async () => {
    const document = (await (await fetch(`${registry.url}/tried`)).json()) as {
      'dist-tags': object;
      versions: Record<string, { bin: string; dist: { tarball: string } }>;
    };
    const { dist, bin } = document.versions['1.2.3'] as (typeof document.versions)[string];
    expect({ bin, tags: document['dist-tags'] }).toEqual({ bin: 'x.js', tags: { latest: '1.2.3' } });
    const bytes = Buffer.from(await (await fetch(dist.tarball)).arrayBuffer());
    expect(bytes.equals(readFileSync(tarball))).toBe(true);
    expect(asked).toEqual([]);
  });

  test('takes others from the registry that npm is set to, their files only once', async () => {
    const document = (await (await fetch(`${registry.url}/other`)).json()) as { tarball: string };
    expect(document.tarball).toBe(`${registry.url}/other/-/other-1.0.0.tgz`);
    for (let i = 0; i < 2; i++) expect(await (await fetch(document.tarball)).text()).toBe('bytes');
    expect(asked).toEqual(['/other', '/other/-/other-1.0.0.tgz']);
    expect((await fetch(`${registry.url}/nothing`)).status).toBe(404);
  });
});

describe('a version can be released', () => {
  const changelog = (unreleased: string, entry: string) =>
    `# Changelog\n\n## [Unreleased]\n${unreleased}\n## [1.2.3]\n${entry}\n## [1.2.2]\n- Old.\n`;

  test('when the changelog has an entry for it and nothing waits', () => {
    expect(releaseFaults('1.2.3', changelog('', '### Added\n- New.\n'))).toEqual([]);
  });

  test.each([
    ['1.3.0', changelog('', '- New.'), /no entry for 1\.3\.0/],
    ['1.2.3', changelog('', ''), /entry for 1\.2\.3 is empty/],
    ['1.2.3', changelog('- Waiting.', '- New.'), /changes under "Unreleased"/],
  ])('not otherwise: %s', (version, text, fault) => {
    expect(releaseFaults(version, text).join()).toMatch(fault);
  });
});
