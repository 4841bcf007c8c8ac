import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { Context, Hono } from 'hono';
import { basePath } from 'hono/route';
import { packageRoot } from '../runtime/package-root.ts';
import { nameRoute } from './route-label.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};

const HEADERS = {
  'cache-control': 'no-cache',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/** Nothing but the server's own files and words, and the page's one script in line; pictures also from where they are being chosen. */
function policyOf(page: string): string {
  const script = /<script>(.*?)<\/script>/s.exec(page)?.[1] ?? '';
  const hash = createHash('sha256').update(script).digest('base64');
  return `default-src 'none'; script-src 'self' 'sha256-${hash}'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}

/** The page to converse on: `/`, and its parts under `/page/`. They are sent as they lie in the package. */
export function addPage(app: Hono): void {
  const folder = join(packageRoot(), 'src', 'server', 'page');
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  const page = read('index.html');
  const headers = { ...HEADERS, 'content-security-policy': policyOf(page) };
  const send = (c: Context, name: string, content: string) =>
    c.body(content, 200, { ...headers, 'content-type': TYPES[extname(name)] as string });

  for (const name of readdirSync(folder)) {
    if (TYPES[extname(name)] === undefined || name === 'index.html') continue;
    const content = read(name);
    app.get(`/page/${name}`, (c) => send(c, name, content));
  }
  // Not by the route `/`: under `app.route('/llm', …)` that would be `/llm` alone, from which the links of the page lead elsewhere.
  app.get('*', async (c, next): Promise<Response | undefined> => {
    const base = basePath(c).replace(/\/$/, '');
    if (c.req.path === `${base}/` || c.req.path === base) nameRoute(c, `${base}/`);
    if (c.req.path === `${base}/`) return send(c, 'index.html', page);
    if (c.req.path === base)
      return c.redirect(`${base.slice(base.lastIndexOf('/') + 1)}/${new URL(c.req.url).search}`, 308);
    await next();
    return undefined;
  });
}
