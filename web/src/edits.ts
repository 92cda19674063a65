/** What is to be left out of a version or labelled anew; each step can be taken back. */
export type Step = { sha256: string; label: string | null }

/** The newest step for each image; a label of null leaves it out. */
export function settled(steps: readonly Step[]): Map<string, string | null> {
  return new Map(steps.map(({ sha256, label }) => [sha256, label]))
}

/** The body of the request that makes the version. */
export function change(steps: readonly Step[]): { exclude: string[]; relabel: Record<string, string> } {
  const all = [...settled(steps)]
  const relabel = all.filter((pair): pair is [string, string] => pair[1] !== null)
  return { exclude: all.filter(([, label]) => label === null).map(([sha256]) => sha256), relabel: Object.fromEntries(relabel) }
}
