/** Curves of a training, and the same numbers as a table. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { Shapes } from '../api'
import { decimal, duration, percent, words } from '../language'
import { isDark } from '../theme'
import { Scroll } from './pieces'
import type { Course } from './plot'

function Plot({ label, ...course }: { label: string } & Course): JSX.Element {
  const box = useRef<HTMLDivElement>(null)
  const missing = useSignal(false)
  useEffect(() => {
    let erase: (() => void) | undefined
    let gone = false
    const show = async (): Promise<void> => {
      const { draw } = await import('./plot')
      missing.value = false
      if (!gone && box.current) erase = draw(box.current, course)
    }
    show().catch(() => (missing.value = true))
    return () => {
      gone = true
      erase?.()
    }
  }, [JSON.stringify([course, isDark.value])])
  return <div class="curve"><h3>{label}</h3>{missing.value && <p class="quiet">{words.value.noPlot}</p>}<div ref={box} role="img" aria-label={label} /></div>
}

/** The epoch with the best validation accuracy, the first of equals. */
export function best(rows: readonly Shapes['Epoch'][]): Shapes['Epoch'] | undefined {
  const measured = rows.filter((row) => typeof row.val_accuracy === 'number')
  return measured.reduce<Shapes['Epoch'] | undefined>((top, row) => (top && (top.val_accuracy ?? 0) >= (row.val_accuracy ?? 0) ? top : row), undefined)
}

export function Curves({ rows }: { rows: Shapes['Epoch'][] }): JSX.Element {
  const w = words.value
  const epochs = rows.map(({ epoch }) => epoch)
  const of = (name: 'train_loss' | 'val_loss' | 'val_accuracy'): (number | null)[] => rows.map((row) => row[name] ?? null)
  const top = best(rows)
  const number = (value: number | null | undefined): string => (typeof value === 'number' ? decimal(value) : '–')
  return (
    <>
      {top && <p>{w.bestEpoch(String(top.epoch))} ({percent(top.val_accuracy ?? 0)})</p>}
      <div class="columns">
        <Plot label={w.loss} epochs={epochs} series={[{ name: w.trainLoss, token: 'train', values: of('train_loss'), dash: [6, 4] }, { name: w.valLoss, token: 'val', values: of('val_loss') }]} />
        <Plot label={w.accuracy} epochs={epochs} range={[0, 1]} series={[{ name: w.valAccuracy, token: 'val', values: of('val_accuracy') }]} />
      </div>
      <details>
        <summary>{w.asTable}</summary>
        <Scroll label={w.curves}>
          <table>
            <thead><tr><th class="number">{w.epoch}</th><th class="number">{w.trainLoss}</th><th class="number">{w.valLoss}</th><th class="number">{w.valAccuracy}</th><th class="number">s</th></tr></thead>
            <tbody>{rows.map((row) => <tr key={row.epoch}><td class="number">{row.epoch}</td><td class="number">{number(row.train_loss)}</td><td class="number">{number(row.val_loss)}</td><td class="number">{number(row.val_accuracy)}</td><td class="number">{row.seconds ? duration(row.seconds) : '–'}</td></tr>)}</tbody>
          </table>
        </Scroll>
      </details>
    </>
  )
}
