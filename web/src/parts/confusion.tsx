/** A confusion matrix as a table; a cell opens its images. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { Shapes } from '../api'
import { dense, type Matrix, type Told } from '../evaluation'
import { count, percent, words } from '../language'
import { thumbnail } from '../screens/gallery'
import { Scroll } from './pieces'

type Props = { confusion: Matrix; told: Told[]; dataset: Shapes['DatasetOrigin'] | null }
const SHOWN = 120

export function Confusion({ confusion, told, dataset }: Props): JSX.Element {
  const open = useSignal<[string, string] | null>(null)
  const { classes } = confusion
  const rows = dense(confusion)
  const w = words.value
  return (
    <section>
      <h2>{w.confusion}</h2>
      <p class="quiet">{w.confusionHint}</p>
      <Scroll label={w.confusion}>
        <table class="matrix">
          <thead><tr><th scope="col">{w.truth} ↓ {w.answers} →</th>{classes.map((name) => <th scope="col" key={name}>{name}</th>)}</tr></thead>
          <tbody>
            {rows.map((row, truth) => {
              const sum = Math.max(1, row.reduce((all, images) => all + images, 0))
              return (
                <tr key={classes[truth]}>
                  <th scope="row">{classes[truth]}</th>
                  {row.map((images, answer) => {
                    const share = images / sum
                    const tone = truth === answer ? 'accent' : 'bad'
                    const shade = { background: `color-mix(in oklab, var(--${tone}) ${Math.round(45 * share)}%, var(--surface))` }
                    if (!images) return <td key={answer} class={`none${truth === answer ? ' diagonal' : ''}`}>0</td>
                    return (
                      <td key={answer} style={shade} class={truth === answer ? 'diagonal' : ''}>
                        <button type="button" title={w.cellTitle(classes[truth] ?? '', classes[answer] ?? '')} onClick={() => (open.value = [classes[truth] ?? '', classes[answer] ?? ''])}>
                          <strong>{count(images)}</strong><span class="small">{percent(share, 0)}</span>
                        </button>
                      </td>
                    )
                  })}
                </tr>
              )
            })}
          </tbody>
        </table>
      </Scroll>
      {open.value && <Cell pair={open.value} told={told} dataset={dataset} close={() => (open.value = null)} />}
    </section>
  )
}

function Cell({ pair, told, dataset, close }: { pair: [string, string]; told: Told[]; dataset: Shapes['DatasetOrigin'] | null; close: () => void }): JSX.Element {
  const box = useRef<HTMLDialogElement>(null)
  const [truth, answer] = pair
  const w = words.value
  useEffect(() => box.current?.showModal(), [])
  const found = told.filter((one) => one.class === truth && one.label === answer).sort((a, b) => b.confidence - a.confidence)
  return (
    <dialog ref={box} onClose={close} aria-label={w.cellTitle(truth, answer)}>
      <div>
        <div class="title"><h2>{w.cellTitle(truth, answer)}</h2><button type="button" onClick={() => box.current?.close()}>{w.close}</button></div>
        {found.length === 0 && <p class="quiet">{w.noCell}</p>}
        <ul class="gallery">
          {found.slice(0, SHOWN).map((one) => (
            <li key={one.sha256}>
              <figure>
                {dataset?.id && dataset.version && <img src={thumbnail(dataset.id, dataset.version, one.sha256)} alt={one.path} loading="lazy" />}
                <figcaption class="quiet">{percent(one.confidence)}</figcaption>
              </figure>
            </li>
          ))}
        </ul>
      </div>
    </dialog>
  )
}
