/** A plan: every value with its reason; what differs from the one before is marked. */
import type { JSX } from 'preact'
import type { Shapes } from '../api'
import { words } from '../language'
import { Scroll, text } from './pieces'

type Values = Record<string, Shapes['PlanValue']>

export function PlanTable({ plan, before }: { plan: Values; before?: Values | undefined }): JSX.Element {
  const w = words.value
  const changed = (name: string): boolean => before !== undefined && text(before[name]?.value) !== text(plan[name]?.value)
  return (
    <Scroll label={w.plan}>
      <table class="plan">
        <thead><tr><th>{w.setting}</th><th>{w.value}</th><th>{w.reason}</th></tr></thead>
        <tbody>
          {Object.entries(plan).map(([name, { value, reason }]) => (
            <tr key={name} class={changed(name) ? 'changed' : ''}>
              <th scope="row">{name.replaceAll('_', ' ')}</th>
              <td>{text(value)}</td>
              <td class="quiet">{reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  )
}
