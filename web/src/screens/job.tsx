/** One job: phases, curves, plan and log, for as long as it takes. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { answered, api, Refusal, type Shapes, textOf } from '../api'
import { href } from '../address'
import { duration, moment, percent, words } from '../language'
import { type Loaded, useLoaded } from '../load'
import { Curves } from '../parts/curves'
import { ENDED } from '../parts/job_list'
import { Problem, State, Trouble } from '../parts/pieces'
import { PlanTable } from '../parts/plan'

type Shown = { job: Shapes['Job']; epochs: Shapes['Epoch'][]; read: number }

const SECONDS = 5
const LINES = 200

/** The epochs are asked for again when they can have changed, and while a job trains every few seconds. */
async function ask(job_id: string, before: Shown | undefined): Promise<Shown> {
  const params = { path: { job_id } }
  const job = await answered(api.GET('/jobs/{job_id}', { params }))
  if (job.kind !== 'finetune') return { job, epochs: [], read: 0 }
  const now = performance.now()
  const same = before?.job.id === job_id && before.job.state === job.state && before.job.phase === job.phase
  const still = same && (job.phase !== 'training' || job.state !== 'running' || now - before.read < 1000 * SECONDS)
  if (still) return { ...before, job }
  return { job, epochs: (await answered(api.GET('/jobs/{job_id}/metrics', { params }))).epochs, read: now }
}

export function Job({ id }: { id: string }): JSX.Element {
  const shown: Loaded<Shown> = useLoaded(() => ask(id, shown.data.peek()), id, ({ job }) => (ENDED.includes(job.state) ? 0 : 1000))
  const refusal = useSignal<Refusal | undefined>(undefined)
  const w = words.value
  if (!shown.data.value) return <><Trouble refusal={shown.refusal.value} />{!shown.refusal.value && <p role="status">{w.loading}</p>}</>
  const { job, epochs } = shown.data.value
  const act = async (verb: 'cancel' | 'pause' | 'resume' | 'retry'): Promise<void> => {
    try {
      await answered(api.POST(`/jobs/{job_id}/${verb}`, { params: { path: { job_id: id } } }))
      refusal.value = undefined
      shown.reload()
    } catch (problem) {
      refusal.value = Refusal.of(problem)
    }
  }
  const model = typeof job.result?.['model'] === 'string' ? job.result['model'] : null
  const over = ENDED.includes(job.state)
  const button = (verb: 'cancel' | 'pause' | 'resume' | 'retry', title: string): JSX.Element => <button type="button" onClick={() => void act(verb)}>{title}</button>
  return (
    <>
      <div class="title">
        <div>
          <h1>{w.kinds[job.kind] ?? job.kind}{model ? `: ${model}` : job.config['name'] ? `: ${String(job.config['name'])}` : ''}</h1>
          <div class="row"><State is={job.state} /><span class="quiet small">{moment(job.created_at)}</span></div>
        </div>
        <div class="row">
          {job.state === 'succeeded' && model && <a class="button primary" href={href(['models', model])}>{w.openModel}</a>}
          {job.dataset && <a class="button" href={href(['datasets', job.dataset])}>{w.openData}</a>}
          {['running', 'queued'].includes(job.state) && button('pause', w.pause)}
          {job.state === 'paused' && button('resume', w.resume)}
          {!over && button('cancel', w.cancel)}
          {['failed', 'cancelled'].includes(job.state) && button('retry', w.retry)}
        </div>
      </div>
      <Trouble refusal={refusal.value} manual />
      <Trouble refusal={shown.refusal.value} />
      {!over && (
        <section class="card">
          <progress max={1} value={job.progress} aria-label={w.progress} />
          <p role="status">
            {job.queue_position ? w.queued(job.queue_position) : w.phases[job.phase ?? ''] ?? w.states[job.state]}
            {' · '}{percent(job.progress, 0)}{job.eta ? ` · ${w.left(duration(job.eta))}` : ''}
          </p>
          {(job.waiting_for?.reason ?? job.reason) && <p class="quiet">{job.waiting_for?.reason ?? job.reason}</p>}
        </section>
      )}
      {job.error && <Problem {...job.error} />}
      {job.kind === 'finetune' && (
        <section>
          <h2>{w.curves}</h2>
          {epochs.length ? <Curves rows={epochs} /> : <p class="quiet">{w.noCurves}</p>}
        </section>
      )}
      {job.plan && <details><summary>{w.details}</summary><PlanTable plan={job.plan} /></details>}
      <Log id={id} />
    </>
  )
}

function Log({ id }: { id: string }): JSX.Element {
  const lines = useSignal<string[]>([])
  const refusal = useSignal<Refusal | undefined>(undefined)
  const open = async (): Promise<void> => {
    try {
      lines.value = (await textOf(`/jobs/${id}/logs`)).trim().split('\n')
      refusal.value = undefined
    } catch (error) {
      refusal.value = Refusal.of(error)
    }
  }
  return (
    <details onToggle={(event) => event.currentTarget.open && void open()}>
      <summary>{words.value.log}</summary>
      <Trouble refusal={refusal.value} manual />
      {lines.value.length > LINES && <p class="quiet"><a href={`/jobs/${id}/logs`}>{words.value.lastOf(LINES, lines.value.length)}</a></p>}
      <pre tabIndex={0}>{lines.value.slice(-LINES).join('\n') || '–'}</pre>
    </details>
  )
}
