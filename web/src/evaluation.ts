/** What an evaluation says, in the forms that the screens show. */

export type Told = { sha256: string; path: string; split: string; class: string; label: string; confidence: number }

/** What the evaluation said about each image, as the service keeps it: one JSON object a line. */
export async function predictions(name: string, number: number): Promise<Told[]> {
  const answer = await fetch(`/models/${encodeURIComponent(name)}/versions/${number}/predictions`)
  if (!answer.ok) return []
  const lines = (await answer.text()).split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line) as Told)
}

/** The split that a verdict is spoken over: test where there is one. */
export const judged = (splits: Record<string, unknown>): string => (splits['test'] ? 'test' : splits['val'] ? 'val' : Object.keys(splits)[0] ?? 'val')

/** A confusion matrix as rows of numbers, whichever way it was sent. */
export type Matrix = { classes: string[]; matrix?: number[][] | null | undefined; cells?: number[][] | null | undefined }

export function dense(confusion: Matrix): number[][] {
  if (confusion.matrix) return confusion.matrix
  const rows = confusion.classes.map(() => confusion.classes.map(() => 0))
  for (const [truth = 0, answer = 0, images = 0] of confusion.cells ?? []) {
    const row = rows[truth]
    if (row) row[answer] = images
  }
  return rows
}

export type Pairing = { both: number; first: number; second: number; neither: number; difference: number; low: number; high: number }

/**
 * Compare two versions on the images that both were measured on; null where these are not the same.
 * The interval is that of a difference of paired proportions (Newcombe 1998, method 2 without
 * correction is wider; this is Wald's with Agresti and Min's 0.5 added to each discordant cell, 2005).
 */
export function paired(a: readonly Told[], b: readonly Told[]): Pairing | null {
  const other = new Map(b.map((told) => [told.sha256, told]))
  if (a.length === 0 || a.length !== b.length || a.some(({ sha256 }) => !other.has(sha256))) return null
  const counts = { both: 0, first: 0, second: 0, neither: 0 }
  for (const one of a) {
    const left = one.label === one.class
    const right = other.get(one.sha256)?.label === other.get(one.sha256)?.class
    counts[left ? (right ? 'both' : 'first') : right ? 'second' : 'neither'] += 1
  }
  const n = a.length + 2
  const [only, also] = [counts.first + 0.5, counts.second + 0.5]
  const middle = (also - only) / n
  const spread = (1.959964 * Math.sqrt(also + only - (also - only) ** 2 / n)) / n
  return { ...counts, difference: (counts.second - counts.first) / a.length, low: middle - spread, high: middle + spread }
}
