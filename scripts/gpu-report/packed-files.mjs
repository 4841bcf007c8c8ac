// Which files of the repository the folder for a GPU machine holds: what gpu-report.mjs runs there without building anything.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What is built first, each with the command that makes it. */
export const BUILT = {
  'dist/cli/main.js': 'npm run build',
  'kernels/build/switchyard.node': 'npm run build',
  'kernels/build/libswitchyard_cuda.so': 'node scripts/build-cuda.mjs --bench',
  'kernels/build/cuda/bench': 'node scripts/build-cuda.mjs --bench',
};
const SINGLE = ['package.json', 'tsconfig.json', ...Object.keys(BUILT)];
/** Tests that would run without a card list the kernels' sources as they begin. */
const FOLDERS = ['configs', 'dist', 'kernels', 'scripts', 'src', 'test'];
/** What else is built, and fixtures of tests that need no card. */
const LEFT_HERE = /^kernels\/(build|cuda\/results)\/|^test\/fixtures\/(?!goldens\/)/;
/** Packages that run the tests and bundle modules for the scripts; all others are those that the package itself needs. */
const TOOLS = ['vitest', 'rolldown'];
/** Nothing reads these there. ONNX Runtime's own libraries make way for those that the folder brings. */
const NEEDLESS = /(\.map|\.d\.[cm]?ts|\.md|\.markdown|__pycache__.*)$|^node_modules\/onnxruntime-node\/bin\//;

/**
 * @param root the repository
 * @returns {string[]} paths relative to it, sorted
 * @throws Error naming what is not built, and what builds it
 */
export function packedFiles(root) {
  for (const [file, command] of Object.entries(BUILT))
    if (!existsSync(join(root, file))) throw new Error(`there is no ${file}; it is made by: ${command}`);
  const own = FOLDERS.flatMap((folder) => filesBelow(root, folder)).filter((file) => !LEFT_HERE.test(file));
  const packages = packagesOf(root).flatMap((folder) => filesBelow(root, folder));
  return [...new Set([...SINGLE, ...own, ...packages])].filter((file) => !NEEDLESS.test(file)).sort();
}

/** Folders of the packages that are needed, and of what these need in turn. */
function packagesOf(root) {
  const folders = new Set();
  const visit = (names, from) => {
    for (const name of names) {
      const folder = findPackage(root, name, from);
      // Optional ones are there or not.
      if (folder === undefined || folders.has(folder)) continue;
      folders.add(folder);
      const { dependencies, optionalDependencies } = readPackage(root, folder);
      visit(Object.keys({ ...dependencies, ...optionalDependencies }), folder);
    }
  };
  visit([...Object.keys(readPackage(root, '.').dependencies ?? {}), ...TOOLS], '');
  return [...folders];
}

/** As Node finds it: in the nearest node_modules, from a package's folder upwards. */
function findPackage(root, name, from) {
  for (let folder = from; ; folder = folder.replace(/\/?[^/]*$/, '')) {
    const found = join(folder, 'node_modules', name);
    if (existsSync(join(root, found, 'package.json'))) return found;
    if (folder === '') return undefined;
  }
}

function readPackage(root, folder) {
  return JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
}

/** Nested packages are listed by those that need them. */
function filesBelow(root, folder) {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : filesBelow(root, path);
    return entry.isFile() ? [path] : [];
  });
}
