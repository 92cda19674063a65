/** Two versions: of one model what changes from one to the other, of two models side by side. */
import type { JSX } from 'preact'
import { answered, api, type Shapes, thumbnail } from '../api'
import { address, filter, href } from '../address'
import { judged } from '../evaluation'
import { count, percent, words } from '../language'
import { collected, useLoaded } from '../load'
import { Fact, Scroll, Trouble } from '../parts/pieces'
import { modelsOf } from './models'

const versionsOf = async (name: string): Promise<Shapes['ModelVersion'][]> =>
  name ? (await answered(api.GET('/models/{name}/versions', { params: { path: { name } } }))).data : []

const split = (reference: string): [name: string, number: string] => {
  const [name = '', number = ''] = reference.split('@')
  return [name, number]
}

/** The references of an address. A version alone is the new one, and beside it is the newest of those before it. */
export async function pairOf(asked: string): Promise<string[]> {
  const [name, number] = split(asked)
  if (asked.includes(',') || !number) return asked.split(',')
  const earlier = (await versionsOf(name)).map((one) => one.number).filter((one) => one < Number(number))
  return earlier.length ? [`${name}@${Math.max(...earlier)}`, asked] : [asked]
}

const share = (value: number | null | undefined): string => (typeof value === 'number' ? percent(value) : '–')

export function Compare(): JSX.Element {
  const models = useLoaded(() => collected(modelsOf('own', 1000)), 'own models')
  const asked = address.value.query.get('m') ?? ''
  const pair = useLoaded(() => pairOf(asked), asked)
  const [first = '', second = ''] = asked.includes(',') ? asked.split(',') : pair.data.value ?? ['', asked]
  const w = words.value
  const pick = (place: number, value: string): void => filter({ m: (place ? [first, value] : [value, second]).join(',') })
  const both = [first, second].every((one) => split(one)[1])
  return (
    <>
      <h1>{w.compare}</h1>
      <Trouble refusal={models.refusal.value} />
      <div class="columns">
        {[first, second].map((chosen, place) => (
          <Pick key={place} title={place ? w.newVersion : w.oldVersion} models={models.data.value?.rows ?? []} chosen={chosen} pick={(value) => pick(place, value)} />
        ))}
      </div>
      {!both && <p class="quiet">{w.chooseTwo}</p>}
      {both && (split(first)[0] === split(second)[0] ? <Changes old={first} fresh={second} /> : <p class="note">{w.otherModels}</p>)}
      {both && <Beside first={first} second={second} />}
    </>
  )
}

type Picking = { title: string; models: Shapes['Model'][]; chosen: string; pick: (reference: string) => void }

function Pick({ title, models, chosen, pick }: Picking): JSX.Element {
  const [name, number] = split(chosen)
  const versions = useLoaded(() => versionsOf(name), name)
  const w = words.value
  return (
    <fieldset>
      <legend>{title}</legend>
      <label>
        {w.model}
        <select value={name} onChange={(event) => pick(event.currentTarget.value)}>
          <option value="">–</option>
          {models.map((one) => <option key={one.name}>{one.name}</option>)}
        </select>
      </label>
      <label>
        {w.version}
        <select value={number} disabled={!name} onChange={(event) => pick(`${name}@${event.currentTarget.value}`)}>
          <option value="">–</option>
          {versions.data.value?.map((one) => <option key={one.number}>{one.number}</option>)}
        </select>
      </label>
      <Trouble refusal={versions.refusal.value} />
    </fieldset>
  )
}

/** What the service says of two versions of a model, on the images that were held out from both. */
function Changes({ old, fresh }: { old: string; fresh: string }): JSX.Element | null {
  const [name, number] = split(fresh)
  const query = { old: split(old)[1], new: number }
  const compared = useLoaded(() => answered(api.GET('/models/{name}/compare', { params: { path: { name }, query } })), `${old} ${fresh}`)
  const version = useLoaded(() => answered(api.GET('/models/{name}/versions/{number}', { params: { path: { name, number: Number(number) } } })), fresh)
  const w = words.value
  if (!compared.data.value) return <Trouble refusal={compared.refusal.value} />
  const { accuracy, left_out, per_class, lost_classes, broken, ...rest } = compared.data.value
  return (
    <section>
      <h2>{w.sameImages(accuracy.images, rest.split)}</h2>
      <p>{w.difference(share(accuracy.change), share(accuracy.low), share(accuracy.high))}</p>
      {left_out > 0 && <p class="note">{w.leftOut(left_out)}</p>}
      <dl class="facts">
        <Fact name={`${w.accuracy}: ${w.oldVersion}`}>{share(accuracy.old)}</Fact>
        <Fact name={`${w.accuracy}: ${w.newVersion}`}>{share(accuracy.new)}</Fact>
        <Fact name={w.fixed}>{count(accuracy.fixed)}</Fact>
        <Fact name={w.broken}>{count(accuracy.broken)}</Fact>
        <Fact name={`ECE: ${w.oldVersion}`}>{share(rest.ece.old)}</Fact>
        <Fact name={`ECE: ${w.newVersion}`}>{share(rest.ece.new)}</Fact>
      </dl>
      {lost_classes.length > 0 && <p class="note warning">{w.lostClasses}: {lost_classes.join(', ')}</p>}
      <Scroll label={w.scores}>
        <table>
          <thead><tr><th>{w.filterClass}</th><th class="number">{w.support}</th><th class="number">{w.oldVersion}</th><th class="number">{w.newVersion}</th><th class="number">{w.change}</th><th class="number">{w.intervalOf}</th></tr></thead>
          <tbody>
            {per_class.map((one) => (
              <tr key={one.class}>
                <th scope="row">{one.class}</th><td class="number">{count(one.images)}</td>
                <td class="number">{share(one.old)}</td><td class="number">{share(one.new)}</td><td class="number">{share(one.change)}</td>
                <td class="number quiet">{share(one.low)} – {share(one.high)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {broken.length > 0 && <Broken images={broken} all={accuracy.broken} dataset={version.data.value?.dataset ?? null} />}
    </section>
  )
}

function Broken({ images, all, dataset }: { images: Shapes['BrokenImage'][]; all: number; dataset: Shapes['DatasetOrigin'] | null }): JSX.Element {
  const w = words.value
  return (
    <section>
      <h3>{w.worse}</h3>
      <ul class="gallery">
        {images.map((one) => (
          <li key={`${one.sha256} ${one.class}`}>
            <figure>
              {dataset?.id && dataset.version && <img src={thumbnail(dataset.id, dataset.version, one.sha256)} alt={one.path} loading="lazy" />}
              <figcaption><strong>{one.class}</strong><br /><span class="quiet">{w.said(one.predicted)} · {percent(one.confidence, 0)}</span></figcaption>
            </figure>
          </li>
        ))}
      </ul>
      {all > images.length && <p class="quiet">{w.firstOf(images.length, all)}</p>}
    </section>
  )
}

async function measured(reference: string) {
  const [name, number] = split(reference)
  const { splits } = await answered(api.GET('/models/{name}/versions/{number}/evaluation', { params: { path: { name, number: Number(number) } } }))
  const over = judged(splits)
  return { reference, over, scores: splits[over] }
}

/** What was measured of each on its own held-out images, which need not be the same. */
function Beside({ first, second }: { first: string; second: string }): JSX.Element {
  const both = useLoaded(() => Promise.all([first, second].map(measured)), `${first} ${second}`)
  const w = words.value
  const columns = both.data.value
  if (!columns) return <Trouble refusal={both.refusal.value} />
  const row = (name: string, of: (one: Awaited<ReturnType<typeof measured>>) => string): JSX.Element => (
    <tr><th scope="row">{name}</th>{columns.map((one, place) => <td key={place} class="number">{of(one)}</td>)}</tr>
  )
  return (
    <Scroll label={w.compare}>
      <table>
        <thead><tr><th>{w.measured}</th>{columns.map(({ reference }, place) => <th key={place} class="number"><a href={href(['models', reference])}>{reference}</a></th>)}</tr></thead>
        <tbody>
          {row(w.filterSplit, ({ over }) => over || '–')}
          {row(w.accuracy, ({ scores }) => share(scores?.accuracy))}
          {row('Macro F1', ({ scores }) => share(scores?.macro?.f1))}
          {row('ECE', ({ scores }) => share(scores?.ece))}
          {row(w.support, ({ scores }) => (typeof scores?.images === 'number' ? count(scores.images) : '–'))}
        </tbody>
      </table>
    </Scroll>
  )
}
