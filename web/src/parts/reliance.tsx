/** Which answers of a model are relied on, and how much more would be right if fewer were. */
import type { JSX } from 'preact'
import type { Shapes } from '../api'
import { percent, words } from '../language'
import { Scroll } from './pieces'

export function Reliance({ abstention }: { abstention: Shapes['Abstention'] }): JSX.Element {
  const { coverage, accuracy, accuracy_interval: range, unknown, unsure, reason, by_confidence } = abstention
  const w = words.value
  return (
    <section>
      <h2>{w.abstains}</h2>
      {reason ? <p class="note warning">{reason}</p> : (
        <>
          <p>
            {w.reliesOn(percent(coverage))}
            {typeof accuracy === 'number' && ` ${w.rightOfThese(percent(accuracy))}`}
            {range && ` ${w.interval(percent(range.low), percent(range.high))}`}
          </p>
          <p class="quiet">{w.keptBack(unknown, unsure)}</p>
        </>
      )}
      <h3>{w.surest}</h3>
      <Scroll label={w.surest}>
        <table>
          <thead><tr><th class="number">{w.answered}</th><th class="number">{w.leastConfidence}</th><th class="number">{w.accuracy}</th></tr></thead>
          <tbody>{by_confidence.map((one, place) => <tr key={place}><td class="number">{percent(one.coverage, 0)}</td><td class="number">{percent(one.confidence)}</td><td class="number">{percent(one.accuracy)}</td></tr>)}</tbody>
        </table>
      </Scroll>
    </section>
  )
}
