// Files of Debian packages of another release or architecture than this machine's, without installing them.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** The archive that this machine's own apt uses for Debian's main section. */
function archive() {
  const format = ['--format', '$(SITE) $(COMPONENT) $(LABEL)'];
  const lines = execFileSync('apt-get', ['indextargets', ...format], { encoding: 'utf8' }).split('\n');
  const site = lines.find((line) => line.endsWith(' main Debian'))?.split(' ')[0];
  if (!site) throw new Error("apt's sources name no archive of Debian: this takes a Debian machine");
  return site;
}

/** Options that give apt lists of its own, under `state`, of one release and architecture. */
function aptOptions(state, { release, arch, components }) {
  for (const folder of ['lists/partial', 'cache/archives/partial', 'empty'])
    mkdirSync(join(state, folder), { recursive: true });
  const sources = join(state, 'sources.list');
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(sources, `deb [signed-by=${keyring}] ${archive()} ${release} ${components}\n`);
  writeFileSync(join(state, 'status'), '');
  const settings = {
    'Dir::Etc::SourceList': sources,
    'Dir::Etc::SourceParts': join(state, 'empty'),
    'Dir::State': state,
    'Dir::State::Lists': join(state, 'lists'),
    'Dir::State::status': join(state, 'status'),
    'Dir::Cache': join(state, 'cache'),
    'APT::Architecture': arch,
    'APT::Architectures': arch,
    // The oldest releases are signed for a time that has passed.
    'Acquire::Check-Valid-Until': 'false',
    'APT::Sandbox::User': 'root',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/** Absolute links would lead out of the folder. */
function relinkInside(folder) {
  for (const entry of readdirSync(folder, { recursive: true })) {
    const path = join(folder, entry);
    if (!lstatSync(path).isSymbolicLink()) continue;
    const target = readlinkSync(path);
    if (!target.startsWith('/')) continue;
    unlinkSync(path);
    symlinkSync(relative(dirname(path), join(folder, target)), path);
  }
}

/**
 * Unpacks packages into `folder`, unless it is there already.
 *
 * @param {string} folder
 * @param {{ release: string, arch: string, components?: string, packages: string[] }} wanted
 */
export function unpackPackages(folder, { release, arch, components = 'main', packages }) {
  if (existsSync(folder)) return folder;
  const work = `${folder}.${process.pid}`;
  try {
    mkdirSync(join(work, 'files'), { recursive: true });
    const options = aptOptions(join(work, 'apt'), { release, arch, components });
    const apt = (...args) =>
      execFileSync('apt-get', [...options, '-qq', ...args], {
        cwd: work,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
    apt('update');
    apt('download', ...packages);
    for (const name of readdirSync(work).filter((name) => name.endsWith('.deb')))
      execFileSync('dpkg-deb', ['--extract', join(work, name), join(work, 'files')]);
    relinkInside(join(work, 'files'));
    renameSync(join(work, 'files'), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}
