/** The data sets, the newest first. */
import type { JSX } from 'preact'
import { answered, api } from '../api'
import { href } from '../address'
import { bytes, count, moment, words } from '../language'
import { usePages } from '../load'
import { Empty, More, Scroll, State, Trouble } from '../parts/pieces'

export function Datasets(): JSX.Element {
  const sets = usePages((after) => answered(api.GET('/datasets', { params: { query: { limit: 100, ...(after ? { after } : {}) } } })), 'datasets', () => 5000)
  const w = words.value
  const found = sets.data.value?.rows
  return (
    <section>
      <div class="title"><h1>{w.data}</h1>{Boolean(found?.length) && <a class="button primary" href="#/datasets/new">{w.addImages}</a>}</div>
      <Trouble refusal={sets.refusal.value} />
      {found?.length === 0 && <Empty title={w.noData} hint={w.noDataHint}><a class="button primary" href="#/datasets/new">{w.addImages}</a></Empty>}
      {found && found.length > 0 && (
        <Scroll label={w.data}>
          <table>
            <thead><tr><th>{w.name}</th><th>{w.state}</th><th class="number">{w.images}</th><th class="number">{w.classes}</th><th class="number">{w.size}</th><th>{w.created}</th></tr></thead>
            <tbody>
              {found.map((set) => (
                <tr key={set.id}>
                  <th scope="row"><a href={href(['datasets', set.id])}>{set.name}</a></th>
                  <td><State is={set.state} /></td>
                  <td class="number">{set.latest ? count(set.latest.images) : '–'}</td>
                  <td class="number">{set.latest ? count(set.latest.classes.length) : '–'}</td>
                  <td class="number">{set.latest ? bytes(set.latest.bytes) : '–'}</td>
                  <td class="quiet">{moment(set.created_at)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      <More list={sets} />
    </section>
  )
}
