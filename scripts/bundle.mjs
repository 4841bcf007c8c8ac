// Makes dist/ of src/: the library and the command line, which share their code, in few files, because looking for files is most of what a
// start costs. Types are made by tsc.
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleModules, root } from './modules/bundle.mjs';

const dist = join(root, 'dist');

/** What package.json offers: `./dist/X.js` is made of `src/X.ts`. */
const { exports, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const offered = [...Object.values(exports).map((entry) => entry.default), ...Object.values(bin)];
const names = offered.flatMap((path) => path?.match(/^(?:\.\/)?dist\/(.+)\.js$/)?.[1] ?? []);

await bundleModules(names, dist);
chmodSync(join(dist, 'cli', 'main.js'), 0o755);
