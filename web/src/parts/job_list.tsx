/** Jobs as a table, on the start screen and on their own. */
import type { JSX } from 'preact'
import type { Shapes } from '../api'
import { href } from '../address'
import { duration, moment, percent, words } from '../language'
import { Scroll, State } from './pieces'

export const ENDED = ['succeeded', 'failed', 'cancelled']

export function JobList({ jobs, label }: { jobs: Shapes['Job'][]; label: string }): JSX.Element {
  const w = words.value
  return (
    <Scroll label={label}>
      <table>
        <thead>
          <tr><th>{w.kind}</th><th>{w.name}</th><th>{w.state}</th><th>{w.progress}</th><th>{w.created}</th></tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <tr key={job.id}>
              <th scope="row"><a href={href(['jobs', job.id])}>{w.kinds[job.kind] ?? job.kind}</a></th>
              <td>{job.model ?? String(job.config['name'] ?? job.config['architecture'] ?? '–')}</td>
              <td><State is={job.state} /></td>
              <td>{ENDED.includes(job.state) ? '–' : `${percent(job.progress, 0)}${job.eta ? ` · ${w.left(duration(job.eta))}` : ''}`}</td>
              <td class="quiet">{moment(job.created_at)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  )
}
