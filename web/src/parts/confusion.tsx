/** A confusion matrix: a table, or the largest mistakes of many classes; a cell opens its images. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { Shapes } from '../api'
import { href } from '../address'
import { dense, type Matrix, mistakes, type Told } from '../evaluation'
import { count, percent, words } from '../language'
import { useLoaded } from '../load'
import { JudgedImage } from './judged_image'
import { Scroll, Trouble } from './pieces'

type Pair = [truth: string, answer: string]
type Load = () => Promise<Told[]>
type Images = { version: Shapes['ModelVersion']; of: string }
type Show = (truth: string, answer: string) => void
const SHOWN = 120
const MOST_CLASSES = 200 // Of a table; beyond it, 40 000 cells would be drawn.
const MOST_MISTAKES = 100

/** `load` returns what was said about each image that `of` names; it is asked when a cell is opened. Without it, none opens. */
export function Confusion({ confusion, load, ...images }: { confusion: Matrix; load: Load | undefined } & Images): JSX.Element {
  const open = useSignal<Pair | null>(null)
  const show: Show | undefined = load && ((...pair) => void (open.value = pair))
  const many = confusion.classes.length > MOST_CLASSES
  const w = words.value
  return (
    <section>
      <h2>{w.confusion}</h2>
      <p class="quiet">{many ? w.manyClasses(confusion.classes.length) : w.confusionHint}{!many && show && ` ${w.openCell}`}</p>
      {many ? <Largest confusion={confusion} show={show} /> : <Table confusion={confusion} show={show} />}
      {load && open.value && <Cell pair={open.value} load={load} close={() => (open.value = null)} {...images} />}
    </section>
  )
}

type Opening = { confusion: Matrix; show: Show | undefined }

export function Largest({ confusion, show }: Opening): JSX.Element {
  const found = mistakes(confusion)
  const w = words.value
  return (
    <>
      <Scroll label={w.confusion}>
        <table>
          <thead><tr><th>{w.truth}</th><th>{w.answers}</th><th class="number">{w.images_}</th><th class="number">{w.shareOfClass}</th></tr></thead>
          <tbody>
            {found.slice(0, MOST_MISTAKES).map(({ truth, answer, images, share }) => (
              <tr key={`${truth}\n${answer}`}>
                <th scope="row">{show ? <button type="button" onClick={() => show(truth, answer)}>{truth}</button> : truth}</th>
                <td>{answer}</td><td class="number">{count(images)}</td><td class="number">{percent(share, 0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {found.length > MOST_MISTAKES && <p class="quiet">{w.firstOf(MOST_MISTAKES, found.length)}</p>}
    </>
  )
}

export function Table({ confusion, show }: Opening): JSX.Element {
  const { classes } = confusion
  const rows = dense(confusion)
  const w = words.value
  return (
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
                  const told = <><strong>{count(images)}</strong><span class="small">{percent(share, 0)}</span></>
                  const names = [classes[truth] ?? '', classes[answer] ?? ''] as const
                  if (!images) return <td key={answer} class={`none${truth === answer ? ' diagonal' : ''}`}>0</td>
                  return (
                    <td key={answer} style={shade} class={truth === answer ? 'diagonal' : ''}>
                      {show ? <button type="button" title={w.cellTitle(...names)} onClick={() => show(...names)}>{told}</button> : <div>{told}</div>}
                    </td>
                  )
                })}
              </tr>
            )
          })}
        </tbody>
      </table>
    </Scroll>
  )
}

function Cell({ pair, version, load, of, close }: { pair: Pair; load: Load; close: () => void } & Images): JSX.Element {
  const box = useRef<HTMLDialogElement>(null)
  const [truth, answer] = pair
  const told = useLoaded(load, of)
  const { dataset } = version
  const w = words.value
  useEffect(() => box.current?.showModal(), [])
  const found = told.data.value?.filter((one) => one.class === truth && one.label === answer).sort((a, b) => b.confidence - a.confidence)
  return (
    <dialog ref={box} onClose={close} aria-label={w.cellTitle(truth, answer)}>
      <div>
        <div class="title"><h2>{w.cellTitle(truth, answer)}</h2><button type="button" onClick={() => box.current?.close()}>{w.close}</button></div>
        <Trouble refusal={told.refusal.value} />
        {!found && !told.refusal.value && <p role="status">{w.loading}</p>}
        {version.heatmap && Boolean(found?.length) && <p class="quiet">{w.explainHint}</p>}
        {found?.length === 0 && <p class="quiet">{w.noCell}</p>}
        <ul class="gallery">
          {found?.slice(0, SHOWN).map((one) => (
            <li key={one.sha256}>
              <figure>
                <JudgedImage version={version} sha256={one.sha256} path={one.path} />
                <figcaption class="quiet">{percent(one.confidence)}</figcaption>
              </figure>
            </li>
          ))}
        </ul>
        {dataset?.id && Boolean(found?.length) && <p><a href={href(['datasets', `${dataset.id}@${dataset.version ?? 1}`], { class: truth })}>{w.correctThese}</a></p>}
        {found && found.length > SHOWN && <p class="quiet">{w.firstOf(SHOWN, found.length)}</p>}
      </div>
    </dialog>
  )
}
