/** Curves in the colours of the page, by uPlot: fetched with the first curve, as no other screen needs it. */
import 'uplot/dist/uPlot.min.css'
import uPlot from 'uplot'
import { words } from '../language'

export type Series = { name: string; token: string; values: (number | null)[]; dash?: number[] }
export type Course = { epochs: number[]; series: Series[]; range?: [number, number] }

/** Draw into an element, as wide as it is; what is returned takes the curves away. */
export function draw(here: HTMLElement, { epochs, series, range }: Course): () => void {
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
}
