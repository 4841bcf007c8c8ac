// What a release needs of the changelog.

/** Of `## [version] …`, the text up to the next heading of its kind; undefined without such a heading. */
function section(changelog, version) {
  const parts = changelog.split(/^## \[/m);
  return parts.find((part) => part.startsWith(`${version}]`))?.slice(version.length + 1);
}

/** What keeps `version` from being released, one sentence each. */
export function releaseFaults(version, changelog) {
  const faults = [];
  const entry = section(changelog, version);
  if (entry === undefined) faults.push(`the changelog has no entry for ${version}`);
  else if (!/^- /m.test(entry)) faults.push(`the changelog's entry for ${version} is empty`);
  if (/^- /m.test(section(changelog, 'Unreleased') ?? ''))
    faults.push('the changelog has changes under "Unreleased", which belong to a version');
  return faults;
}
