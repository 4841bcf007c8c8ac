// Package managers, as their users have them: install scripts blocked, a registry on loopback.
import { join } from 'node:path';

/** What brings the managers. */
export const MANAGER_PACKAGES = {
  npm11: 'npm@11',
  npm12: 'npm@12',
  pnpm: 'pnpm@12',
  yarn: '@yarnpkg/cli-dist@4',
  bun: 'bun@1',
};
/** Versions of Node, and of the packages that bring them: that of 20.20.2 came without the program. */
export const NODE_VERSIONS = { 20: '20.20.1', 22: '22', 24: '24', 26: '26' };

/**
 * Of each manager the commands that install packages, run a program of a package in a folder of the project, and start a script with a
 * version of Node; and the files that a project has for it.
 *
 * @param {string} tools folder of the toolbox
 * @param {string} node that runs the managers
 */
export function packageManagers(tools, node) {
  const inModules = {
    run: (project, [name, ...args]) => [join(project, 'node_modules', '.bin', name), ...args],
    node: (version, entry) => [version, entry],
    files: {},
  };
  const npm = (folder, ...flags) => ({
    ...inModules,
    install: (...packages) => {
      const program = join(tools, folder, 'node_modules/npm/bin/npm-cli.js');
      return [node, program, 'install', ...flags, '--no-audit', '--no-fund', ...packages];
    },
  });
  const yarnProgram = [node, join(tools, 'yarn/node_modules/@yarnpkg/cli-dist/bin/yarn.js')];
  const yarn = (linker) => ({
    install: (...packages) => [...yarnProgram, 'add', ...packages],
    run: (_, command) => [...yarnProgram, 'run', '--top-level', ...command],
    // Under PnP, Node finds packages by what yarn loads into it.
    node: (version, entry) => (linker === 'pnp' ? [...yarnProgram, 'node', entry] : [version, entry]),
    files: { '.yarnrc.yml': `nodeLinker: ${linker}\nenableGlobalCache: false\n`, 'yarn.lock': '' },
  });
  const native = (name, files = {}) => ({
    ...inModules,
    install: (...packages) => [join(tools, name, 'node_modules', '.bin', name), 'add', ...packages],
    files,
  });
  return {
    'npm 11': npm('npm11', '--ignore-scripts'),
    'npm 12': npm('npm12'),
    // The answer to scripts that it blocks; without one it exits with 1.
    'pnpm 12': native('pnpm', {
      'pnpm-workspace.yaml': 'allowBuilds: { onnxruntime-node: false, esbuild: false }\n',
    }),
    'yarn 4, node-modules': yarn('node-modules'),
    'yarn 4, PnP': yarn('pnp'),
    bun: native('bun'),
  };
}

/** Settings for all of them; none of this machine's own is seen. */
export function managerEnvironment({ registry, home, path }) {
  return {
    PATH: path,
    HOME: home,
    CI: '1',
    npm_config_registry: registry,
    npm_config_update_notifier: 'false',
    BUN_CONFIG_REGISTRY: registry,
    YARN_NPM_REGISTRY_SERVER: registry,
    YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
    YARN_ENABLE_TELEMETRY: 'false',
    YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
  };
}
