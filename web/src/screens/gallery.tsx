/** The images of a version: filters in the address, corrections by key, a new version. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { answered, api, Refusal, type Shapes } from '../api'
import { address, filter, go } from '../address'
import { change, settled, type Step } from '../edits'
import { count, words } from '../language'
import { useLoaded } from '../load'
import { Grid, type Tile } from '../parts/grid'
import { Trouble } from '../parts/pieces'

type Images = { images: Shapes['Image'][]; more: boolean }
const PAGE = 500

export const thumbnail = (dataset: string, number: number, sha256: string, size = 256): string =>
  `/datasets/${dataset}/versions/${number}/images/${sha256}/thumbnail?size=${size}`

export function Gallery({ version }: { version: Shapes['DatasetVersion'] }): JSX.Element {
  const { dataset, number, classes } = version
  const query = address.value.query
  const wanted = { class: query.get('class') ?? '', split: query.get('split') ?? '', finding: query.get('finding') ?? '' }
  const steps = useSignal<Step[]>([])
  const refusal = useSignal<Refusal | undefined>(undefined)
  const asking = useSignal(false)
  const ask = async (after?: string): Promise<Images> => {
    const given = Object.fromEntries(Object.entries({ ...wanted, after }).filter(([, value]) => value))
    const params = { path: { dataset_id: dataset, number }, query: { limit: PAGE, ...given } }
    const page = await answered(api.GET('/datasets/{dataset_id}/versions/{number}/images', { params }))
    return { images: page.data, more: page.has_more ?? false }
  }
  const loaded = useLoaded(() => ask(), [dataset, number, ...Object.values(wanted)].join('\n'))
  const more = async (): Promise<void> => {
    const now = loaded.data.value
    if (!now?.more || asking.value) return
    asking.value = true
    const next = await ask(now.images.at(-1)?.sha256)
    loaded.data.value = { images: [...now.images, ...next.images], more: next.more }
    asking.value = false
  }
  const edits = settled(steps.value)
  const tiles = (loaded.data.value?.images ?? []).map((image): Tile => {
    const edit = edits.get(image.sha256)
    return {
      key: image.sha256, src: thumbnail(dataset, number, image.sha256), title: image.path,
      caption: edit ?? image.class, out: edit === null, changed: Boolean(edit),
    }
  })
  const act = (key: string, tile: Tile): void => {
    const label = key === 'x' ? null : classes[Number(key) - 1]
    if (key === 'u') steps.value = steps.value.slice(0, -1)
    else if (label !== undefined) steps.value = [...steps.value, { sha256: tile.key, label }]
  }
  const save = async (): Promise<void> => {
    try {
      const params = { path: { dataset_id: dataset } }
      const made = await answered(api.POST('/datasets/{dataset_id}/versions', { params, body: { base: number, ...change(steps.value) } as never })) as { number: number }
      steps.value = []
      go(['datasets', `${dataset}@${made.number}`])
    } catch (problem) {
      refusal.value = problem instanceof Refusal ? problem : undefined
    }
  }
  const w = words.value
  const select = (name: keyof typeof wanted, title: string, values: readonly string[]): JSX.Element => (
    <label>
      {title}
      <select value={wanted[name]} onChange={(event) => filter({ [name]: event.currentTarget.value || undefined })}>
        <option value="">{w.every}</option>
        {values.map((value) => <option key={value}>{value}</option>)}
      </select>
    </label>
  )
  return (
    <section>
      <h2>{w.gallery}</h2>
      <div class="row">
        {select('class', w.filterClass, classes)}
        {select('split', w.filterSplit, Object.keys(version.counts))}
        {version.findings.length > 0 && select('finding', w.filterFinding, version.findings.map(({ code }) => code))}
      </div>
      <p class="quiet small">{w.gridKeys} {classes.slice(0, 9).map((name, index) => `${index + 1} ${name}`).join(' · ')}</p>
      <Trouble refusal={refusal.value ?? loaded.refusal.value} />
      <Grid label={w.gallery} tiles={tiles} more={() => void more()} act={act} />
      {steps.value.length > 0 && (
        <div class="row note good" role="status">
          <strong>{w.changes(count(edits.size))}</strong>
          <div class="row">
            <button type="button" class="primary" onClick={() => void save()}>{w.saveVersion}</button>
            <button type="button" onClick={() => (steps.value = steps.value.slice(0, -1))}>{w.undo}</button>
          </div>
        </div>
      )}
    </section>
  )
}
