/** The start: a place to drop images, what can be done, what is under way, how the service is. */
import type { JSX } from 'preact'
import { answered, api, type Shapes } from '../api'
import { words } from '../language'
import { useLoaded } from '../load'
import { JobList } from '../parts/job_list'
import { Trouble } from '../parts/pieces'
import { DropZone } from '../parts/drop_zone'

async function health(): Promise<Shapes['Readiness']> {
  const answer = await fetch('/readyz') // 503 is an answer here: it says which part is away.
  return (await answer.json()) as Shapes['Readiness']
}

export function Start(): JSX.Element {
  const jobs = useLoaded(() => answered(api.GET('/jobs', { params: { query: { limit: 6 } } })), 'recent', () => 3000)
  const readiness = useLoaded(health, 'health', () => 5000)
  const w = words.value
  const found = jobs.data.value?.data
  return (
    <>
      <section>
        <h1>{w.headline}</h1>
        <p class="quiet">{w.lead}</p>
      </section>
      <DropZone />
      <div class="cards">
        <a class="card" href="#/datasets/new"><h2>{w.addImages}</h2><p class="quiet">{w.addImagesHint}</p></a>
        <a class="card" href="#/train"><h2>{w.trainModel}</h2><p class="quiet">{w.trainModelHint}</p></a>
        <a class="card" href="#/try"><h2>{w.predictNow}</h2><p class="quiet">{w.predictNowHint}</p></a>
      </div>
      <section>
        <div class="title"><h2>{w.recent}</h2><a href="#/jobs">{w.all}</a></div>
        <Trouble refusal={jobs.refusal.value} />
        {found && (found.length ? <JobList jobs={found} label={w.recent} /> : <p class="quiet">{w.noJobs}</p>)}
      </section>
      <Health readiness={readiness.data.value} />
    </>
  )
}

function Health({ readiness }: { readiness: Shapes['Readiness'] | undefined }): JSX.Element | null {
  const w = words.value
  if (!readiness) return null
  const parts = Object.entries(readiness.checks)
  return (
    <section>
      <h2>{w.health}</h2>
      <ul class="row" style={{ listStyle: 'none', padding: 0, margin: 0 }}>
        {parts.map(([part, state]) => (
          <li key={part}><span class={`state ${state === 'ok' ? 'good' : 'bad'}`}>{w.parts[part] ?? part}: {state === 'ok' ? w.ok : state}</span></li>
        ))}
      </ul>
    </section>
  )
}
