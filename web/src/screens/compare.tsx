/** Two versions on the same images. */
import type { JSX } from 'preact'
import { answered, api } from '../api'
import { address, filter, href } from '../address'
import { judged, paired, predictions } from '../evaluation'
import { count, percent, words } from '../language'
import { useLoaded } from '../load'
import { Fact, Scroll, Trouble } from '../parts/pieces'

async function references(): Promise<string[]> {
  const models = await answered(api.GET('/models', { params: { query: { limit: 100 } as never } }))
  const own = models.data.filter(({ source }) => source === 'own')
  return own.flatMap(({ name, latest }) => Array.from({ length: latest ?? 0 }, (_, index) => `${name}@${(latest ?? 0) - index}`))
}

async function measured(reference: string) {
  const [name = '', number = '1'] = reference.split('@')
  const params = { path: { name, number: Number(number) } }
  const [evaluation, told] = await Promise.all([
    answered(api.GET('/models/{name}/versions/{number}/evaluation', { params })),
    predictions(name, Number(number)),
  ])
  return { splits: evaluation.splits, told }
}

export function Compare(): JSX.Element {
  const known = useLoaded(references, 'references')
  const [first = '', second = ''] = (address.value.query.get('m') ?? '').split(',')
  const w = words.value
  const pick = (place: number, value: string): void => filter({ m: (place ? [first, value] : [value, second]).join(',') })
  return (
    <>
      <h1>{w.compare}</h1>
      <Trouble refusal={known.refusal.value} />
      <div class="columns">
        {[first, second].map((chosen, place) => (
          <label key={place}>
            {place ? 'B' : 'A'}
            <select value={chosen} onChange={(event) => pick(place, event.currentTarget.value)}>
              <option value="">–</option>
              {known.data.value?.map((one) => <option key={one}>{one}</option>)}
            </select>
          </label>
        ))}
      </div>
      {first && second ? <Both first={first} second={second} /> : <p class="quiet">{w.chooseTwo}</p>}
    </>
  )
}

function Both({ first, second }: { first: string; second: string }): JSX.Element {
  const both = useLoaded(() => Promise.all([measured(first), measured(second)]), `${first} ${second}`)
  const w = words.value
  if (!both.data.value) return <Trouble refusal={both.refusal.value} />
  const [a, b] = both.data.value
  const split = judged(a.splits)
  const pairing = paired(a.told.filter((one) => one.split === split), b.told.filter((one) => one.split === split))
  const share = (value: number | null | undefined): string => (typeof value === 'number' ? percent(value) : '–')
  return (
    <>
      <Scroll label={w.compare}>
        <table>
          <thead><tr><th>{w.measured}: {split}</th><th class="number">A · <a href={href(['models', first])}>{first}</a></th><th class="number">B · <a href={href(['models', second])}>{second}</a></th></tr></thead>
          <tbody>
            <tr><th scope="row">{w.accuracy}</th><td class="number">{share(a.splits[split]?.accuracy)}</td><td class="number">{share(b.splits[split]?.accuracy)}</td></tr>
            <tr><th scope="row">Macro F1</th><td class="number">{share(a.splits[split]?.macro?.f1)}</td><td class="number">{share(b.splits[split]?.macro?.f1)}</td></tr>
            <tr><th scope="row">ECE</th><td class="number">{share(a.splits[split]?.ece)}</td><td class="number">{share(b.splits[split]?.ece)}</td></tr>
            <tr><th scope="row">{w.support}</th><td class="number">{count(a.splits[split]?.images ?? 0)}</td><td class="number">{count(b.splits[split]?.images ?? 0)}</td></tr>
          </tbody>
        </table>
      </Scroll>
      {pairing ? (
        <section>
          <h2>{w.sameImages}</h2>
          <p>{w.difference(percent(pairing.difference), percent(pairing.low), percent(pairing.high))}</p>
          <dl class="facts">
            <Fact name={w.bothRight}>{count(pairing.both)}</Fact>
            <Fact name={w.onlyFirst}>{count(pairing.first)}</Fact>
            <Fact name={w.onlySecond}>{count(pairing.second)}</Fact>
            <Fact name={w.bothWrong}>{count(pairing.neither)}</Fact>
          </dl>
        </section>
      ) : <p class="note">{w.notSame}</p>}
    </>
  )
}
