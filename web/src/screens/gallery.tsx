/** The images of a version: filters in the address, corrections by key, a new version. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useRef } from 'preact/hooks'
import { answered, api, Refusal, type Shapes, thumbnail } from '../api'
import { address, filter, go } from '../address'
import { change, settled, type Step } from '../edits'
import { percent, words } from '../language'
import { useLoaded } from '../load'
import { once } from '../once'
import { Grid, type Tile } from '../parts/grid'
import { Trouble } from '../parts/pieces'

type Images = { images: Shapes['Image'][]; more: boolean }
const PAGE = 500
export const SUSPECTS = ['label_suspect', 'outlier'] // Findings of a model, not of the version.

/** The class of an image, and of a suspect what it may be instead. */
function suspected({ class: given, suspect }: Shapes['Image']): string {
  if (!suspect) return given
  return `${given}${suspect.likely ? ` → ${suspect.likely}?` : ''} ${percent(suspect.score, 0)}`
}

export function Gallery({ version }: { version: Shapes['DatasetVersion'] }): JSX.Element {
  const { dataset, number, classes } = version
  const query = address.value.query
  const wanted = { class: query.get('class') ?? '', split: query.get('split') ?? '', finding: query.get('finding') ?? '' }
  const judge = SUSPECTS.includes(wanted.finding) ? (query.get('model') ?? '') : ''
  const steps = useSignal<Step[]>([])
  const refusal = useSignal<Refusal | undefined>(undefined)
  const saving = useSignal(false)
  const torn = useSignal<Refusal | undefined>(undefined) // Why the next page could not be had.
  const followed = useRef<Images | undefined>(undefined) // The images whose next page is on its way.
  const ask = async (after?: string): Promise<Images> => {
    const given = Object.fromEntries(Object.entries({ ...wanted, model: judge, after }).filter(([, value]) => value))
    const params = { path: { dataset_id: dataset, number }, query: { limit: PAGE, ...given } }
    const page = await answered(api.GET('/datasets/{dataset_id}/versions/{number}/images', { params }))
    return { images: page.data, more: page.has_more ?? false }
  }
  const loaded = useLoaded(() => ask(), [dataset, number, judge, ...Object.values(wanted)].join('\n'))
  const more = async (): Promise<void> => {
    const now = loaded.data.value
    if (!now?.more || followed.current === now) return
    followed.current = now
    torn.value = undefined
    try {
      const next = await ask(now.images.at(-1)?.sha256)
      // Another filter has other images by now; a page of these is none of theirs.
      if (loaded.data.value === now) loaded.data.value = { images: [...now.images, ...next.images], more: next.more }
    } catch (problem) {
      if (loaded.data.value === now) torn.value = Refusal.of(problem)
    }
  }
  const again = (): void => {
    followed.current = undefined
    void more()
  }
  const edits = settled(steps.value)
  const tiles = (loaded.data.value?.images ?? []).map((image): Tile => {
    const edit = edits.get(image.sha256)
    return {
      key: image.sha256, src: thumbnail(dataset, number, image.sha256), title: image.path,
      caption: edit?.right ? `✓ ${image.class}` : (edit?.label ?? suspected(image)), out: edit?.label === null, changed: Boolean(edit?.label),
    }
  })
  const undo = (): void => void (steps.value = steps.value.slice(0, -1))
  const of = (tile: Tile): Shapes['Image'] | undefined => loaded.data.value?.images.find(({ sha256 }) => sha256 === tile.key)
  const give = (tile: Tile, label: string | null, right = false): void => void (steps.value = [...steps.value, { sha256: tile.key, label, right }])
  const keep = (tile: Tile): void => give(tile, of(tile)?.class ?? null, true)
  const act = (key: string, tile: Tile): void => {
    const likely = key === 'y' ? of(tile)?.suspect?.likely : null
    const label = key === 'x' ? null : (likely ?? classes[Number(key) - 1])
    if (key === 'u') undo()
    else if (key === 'k') keep(tile)
    else if (label !== undefined) give(tile, label)
  }
  const save = async (): Promise<void> => {
    if (saving.value) return
    saving.value = true
    refusal.value = undefined
    try {
      const path = { dataset_id: dataset }
      const body = { base: number, ...change(steps.value) }
      const send = (header: object) => answered(api.POST('/datasets/{dataset_id}/versions', { params: { path, header }, body: body as never }))
      const made = (await once(['version', dataset, body], send)) as { number: number }
      steps.value = []
      go(['datasets', `${dataset}@${made.number}`])
    } catch (problem) {
      refusal.value = Refusal.of(problem)
    }
    saving.value = false
  }
  const w = words.value
  const select = (name: keyof typeof wanted, title: string, values: readonly string[], named: Record<string, string> = {}): JSX.Element => (
    <label>
      {title}
      <select value={wanted[name]} onChange={(event) => filter({ [name]: event.currentTarget.value || undefined })}>
        <option value="">{w.every}</option>
        {values.map((value) => <option key={value} value={value}>{named[value] ?? value}</option>)}
      </select>
    </label>
  )
  return (
    <section>
      <h2>{w.gallery}</h2>
      <div class="row">
        {select('class', w.filterClass, classes)}
        {select('split', w.filterSplit, Object.keys(version.counts))}
        {select('finding', w.filterFinding, [...SUSPECTS, ...version.findings.map(({ code }) => code)], w.suspects)}
      </div>
      <p class="quiet small">{w.gridKeys} {classes.slice(0, 9).map((name, index) => `${index + 1} ${name}`).join(' · ')}</p>
      {SUSPECTS.includes(wanted.finding) && (loaded.data.value
        ? <p class="note">{loaded.data.value.images.length ? w.suspectKeys(loaded.data.value.images[0]?.suspect?.model ?? '') : w.noSuspects}</p>
        : loaded.refusal.value?.problem.code === 'not_judged' && <p class="note">{w.notJudged}</p>)}
      {loaded.refusal.value?.problem.code !== 'not_judged' && <Trouble refusal={loaded.refusal.value} />}
      <Grid label={w.gallery} tiles={tiles} more={() => void more()} act={act}>{(tile) => <Correct tile={tile} likely={of(tile)?.suspect?.likely} classes={classes} give={give} keep={keep} />}</Grid>
      {torn.value && <div class="row"><Trouble refusal={torn.value} manual /><button type="button" onClick={again}>{w.again}</button></div>}
      <Trouble refusal={refusal.value} manual />
      {steps.value.length > 0 && (
        <div class="row note good" role="status">
          <strong>{w.changes(edits.size)}</strong>
          <div class="row">
            <button type="button" class="primary" disabled={saving.value} onClick={() => void save()}>{w.saveVersion}</button>
            <button type="button" onClick={undo}>{w.undo}</button>
          </div>
        </div>
      )}
    </section>
  )
}

type Correction = {
  tile: Tile
  likely: string | null | undefined
  classes: readonly string[]
  give: (tile: Tile, label: string | null) => void
  keep: (tile: Tile) => void
}

/** What the keys do, for a mouse, a finger, and more than nine classes. */
function Correct({ tile, likely, classes, give, keep }: Correction): JSX.Element {
  const w = words.value
  return (
    <div class="row" role="group" aria-label={w.chosenImage}>
      <span class="quiet small">{w.chosenImage}: {tile.title}</span>
      {likely && <button type="button" onClick={() => give(tile, likely)}>{w.itIs(likely)}</button>}
      <button type="button" onClick={() => keep(tile)}>{w.labelIsRight}</button>
      <button type="button" onClick={() => give(tile, null)}>{w.leaveOut}</button>
      <label class="row">
        {w.giveClass}
        <select value="" onChange={(event) => event.currentTarget.value && give(tile, event.currentTarget.value)}>
          <option value="">–</option>
          {classes.map((name) => <option key={name}>{name}</option>)}
        </select>
      </label>
    </div>
  )
}
