/** What an evaluation says, in the forms that the screens show. */
import { textOf } from './api'

export type Told = { sha256: string; path: string; split: string; class: string; label: string; confidence: number }

let kept: { of: string; told: Promise<Told[]> } | null = null

/**
 * What the evaluation said about each image, as the service keeps it: one JSON object a line. It may be
 * large, so it is asked for where an image is to be shown, and kept for the version that is looked at.
 */
export function predictions(name: string, number: number): Promise<Told[]> {
  const of = `${name}@${number}`
  if (kept?.of === of) return kept.told
  const told = textOf(`/models/${encodeURIComponent(name)}/versions/${number}/predictions`).then((text) =>
    text.split('\n').filter(Boolean).map((line) => JSON.parse(line) as Told))
  kept = { of, told }
  told.catch(() => {
    if (kept?.told === told) kept = null
  })
  return told
}

/** Whether something is told about each image of a split; `folds` is measured as a whole. */
export const isTold = (split: string): boolean => ['val', 'test'].includes(split)

/** The split to show: the one that is asked for, else test where there is one; '' where nothing was measured. */
export const judged = (splits: Record<string, unknown>, asked: string | null = null): string =>
  [asked, 'test', 'val', ...Object.keys(splits)].find((one) => one !== null && Object.hasOwn(splits, one)) ?? ''

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

/** `share` is of the images of the true class. */
export type Mistake = { truth: string; answer: string; images: number; share: number }

/** The cells beside the diagonal that are not 0, the largest first. */
export function mistakes({ classes, matrix, cells }: Matrix): Mistake[] {
  const filled = cells ?? (matrix ?? []).flatMap((row, truth) => row.map((images, answer) => [truth, answer, images]))
  const sums = new Map<number, number>()
  for (const [truth = 0, , images = 0] of filled) sums.set(truth, (sums.get(truth) ?? 0) + images)
  return filled
    .filter(([truth, answer, images = 0]) => truth !== answer && images > 0)
    .map(([truth = 0, answer = 0, images = 0]) => ({ truth: classes[truth] ?? '', answer: classes[answer] ?? '', images, share: images / (sums.get(truth) ?? images) }))
    .sort((a, b) => b.images - a.images || b.share - a.share)
}
