/** All jobs, the newest first. */
import type { JSX } from 'preact'
import { answered, api } from '../api'
import { words } from '../language'
import { usePages } from '../load'
import { JobList } from '../parts/job_list'
import { Empty, More, Trouble } from '../parts/pieces'

export function Jobs(): JSX.Element {
  const jobs = usePages((after) => answered(api.GET('/jobs', { params: { query: { limit: 100, ...(after ? { after } : {}) } } })), 'jobs', () => 3000)
  const w = words.value
  const found = jobs.data.value?.rows
  return (
    <section>
      <h1>{w.jobs}</h1>
      <Trouble refusal={jobs.refusal.value} />
      {found?.length === 0 && <Empty title={w.noJobs} hint={w.noJobsHint}><a class="button primary" href="#/datasets/new">{w.addImages}</a></Empty>}
      {found && found.length > 0 && <JobList jobs={found} label={w.jobs} />}
      <More list={jobs} />
    </section>
  )
}
