/** What is to be left out of a version, labelled anew or found right; each step can be taken back. */
export type Step = { sha256: string; label: string | null; right?: boolean }

/** The newest step for each image; a label of null leaves it out, one that is `right` stays. */
export function settled(steps: readonly Step[]): Map<string, Step> {
  return new Map(steps.map((step) => [step.sha256, step]))
}

export type Change = { exclude: string[]; relabel: Record<string, string>; confirm: string[] }

/** The body of the request that makes the version. */
export function change(steps: readonly Step[]): Change {
  const all = [...settled(steps).values()]
  const hashes = (some: Step[]): string[] => some.map(({ sha256 }) => sha256)
  const relabel = all.filter((step): step is Step & { label: string } => step.label !== null && !step.right)
  return {
    exclude: hashes(all.filter(({ label }) => label === null)),
    relabel: Object.fromEntries(relabel.map(({ sha256, label }) => [sha256, label])),
    confirm: hashes(all.filter(({ right }) => right)),
  }
}
