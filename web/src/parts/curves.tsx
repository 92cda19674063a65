/** Curves of a training, and the same numbers as a table. */
import 'uplot/dist/uPlot.min.css'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import type { Shapes } from '../api'
import { decimal, duration, percent, words } from '../language'
import { isDark } from '../theme'
import { Scroll } from './pieces'

type Series = { name: string; token: string; values: (number | null)[]; dash?: number[] }
type Range = [number, number]

function Plot({ label, epochs, series, range }: { label: string; epochs: number[]; series: Series[]; range?: Range }): JSX.Element {
  const box = useRef<HTMLDivElement>(null)
  const content = JSON.stringify([epochs, series, isDark.value])
  useEffect(() => {
    const here = box.current
    if (!here) return
    const style = getComputedStyle(here)
    // A colour out of light-dark() is resolved by the browser where it is used, so it is read there.
    const colour = (token: string): string => {
      here.style.color = `var(--${token})`
      const found = getComputedStyle(here).color
      here.style.color = ''
      return found
    }
    const axis = { stroke: colour('muted'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line') }, font: `12px ${style.fontFamily}` }
    const plot = new uPlot({
      width: here.clientWidth, height: 240, scales: { x: { time: false }, ...(range ? { y: { range } } : {}) }, cursor: { sync: { key: 'course' } },
      axes: [{ ...axis, incrs: [1, 2, 5, 10, 20, 50, 100] }, axis],
      series: [{ label: words.value.epoch }, ...series.map((one) => ({ label: one.name, stroke: colour(one.token), width: 2, points: { show: epochs.length < 40, size: 5 }, ...(one.dash ? { dash: one.dash } : {}) }))],
    }, [epochs, ...series.map(({ values }) => values)], here)
    const watch = new ResizeObserver(() => plot.setSize({ width: here.clientWidth, height: 240 }))
    watch.observe(here)
    return () => {
      watch.disconnect()
      plot.destroy()
    }
  }, [content])
  return <div class="curve"><h3>{label}</h3><div ref={box} role="img" aria-label={label} /></div>
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
