/** The models that are here: own ones with their measure, and ImageNet networks. */
import type { JSX } from 'preact'
import { answered, api, type Shapes } from '../api'
import { href } from '../address'
import { moment, percent, words } from '../language'
import { type Rows, usePages } from '../load'
import { Empty, More, Scroll, Trouble } from '../parts/pieces'

/** The accuracy that a card names for the split which was kept aside, as a share. */
export function accuracy(metrics: Shapes['Model']['metrics']): number | null {
  for (const split of ['test', 'val']) {
    const flat = metrics[`${split}_accuracy`]
    const nested = (metrics[split] as { accuracy?: unknown } | undefined)?.accuracy
    const found = typeof nested === 'number' ? nested : flat
    if (typeof found === 'number') return found
  }
  return typeof metrics['accuracy'] === 'number' ? metrics['accuracy'] : null
}

export type Source = Shapes['ModelSource']

/** A page of the models of one source. */
export const modelsOf = (source: Source, limit: number) => (after: string | undefined) =>
  answered(api.GET('/models', { params: { query: { source, limit, ...(after ? { after } : {}) } } }))

export function Models(): JSX.Element {
  const models = usePages(modelsOf('own', 100), 'own models')
  const networks = usePages(modelsOf('imagenet', 100), 'networks')
  const w = words.value
  const rows = ({ value }: { value: Rows<Shapes['Model']> | undefined }): Shapes['Model'][] => value?.rows ?? []
  const [own, stock] = [rows(models.data), rows(networks.data)]
  return (
    <>
      <section>
        <div class="title"><h1>{w.models}</h1>{own.length > 0 && <a class="button" href="#/compare">{w.compare}</a>}</div>
        <Trouble refusal={models.refusal.value} />
        {models.data.value && own.length === 0 && <Empty title={w.noModels} hint={w.noModelsHint}><a class="button primary" href="#/train">{w.trainModel}</a></Empty>}
        {own.length > 0 && (
          <Scroll label={w.ownModels}>
            <table>
              <thead><tr><th>{w.name}</th><th>{w.network}</th><th class="number">{w.accuracy}</th><th>{w.aliases}</th><th>{w.created}</th></tr></thead>
              <tbody>
                {own.map((model) => {
                  const share = accuracy(model.metrics)
                  return (
                    <tr key={model.name}>
                      <th scope="row"><a href={href(['models', `${model.name}@${model.latest ?? 1}`])}>{model.name}</a> <span class="quiet">@{model.latest}</span></th>
                      <td>{model.architecture}</td>
                      <td class="number">{share === null ? '–' : percent(share)}</td>
                      <td>{Object.entries(model.aliases).map(([alias, version]) => `${alias} → ${version}`).join(', ') || '–'}</td>
                      <td class="quiet">{model.created_at ? moment(model.created_at) : '–'}</td>
                    </tr>
                  )
                })}
              </tbody>
            </table>
          </Scroll>
        )}
        <More list={models} />
      </section>
      <Trouble refusal={networks.refusal.value} />
      {stock.length > 0 && (
        <section>
          <h2>{w.imagenet}</h2>
          <ul class="row" style={{ listStyle: 'none', padding: 0, margin: 0 }}>{stock.map((model) => <li key={model.name}><a class="button" href={href(['try', model.name])}>{model.name}</a></li>)}</ul>
          <More list={networks} />
        </section>
      )}
    </>
  )
}
