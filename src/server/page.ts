import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { Context, Hono } from 'hono';
import { packageRoot } from '../runtime/package-root.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};

const HEADERS = {
  // Nothing but the server's own files and words; pictures also from where they are being chosen.
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cache-control': 'no-cache',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/** The page to converse on: `/`, and its parts under `/page/`. They are sent as they lie in the package. */
export function addPage(app: Hono): void {
  const folder = join(packageRoot(), 'src', 'server', 'page');
  for (const name of readdirSync(folder)) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const content = readFileSync(join(folder, name), 'utf8');
    const send = (c: Context) => c.body(content, 200, { ...HEADERS, 'content-type': type });
    app.get(name === 'index.html' ? '/' : `/page/${name}`, send);
  }
}
