/** One data set: reading it, the question that it raises, or its report and images. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { answered, api, Refusal, type Shapes } from '../api'
import { href } from '../address'
import { bytes, count, duration, words } from '../language'
import { useLoaded } from '../load'
import { Fact, State, Trouble } from '../parts/pieces'
import { Gallery } from './gallery'

type Shown = { set: Shapes['Dataset']; version: Shapes['DatasetVersion'] | null; job: Shapes['Job'] | null }

async function ask(dataset_id: string, number: string | undefined): Promise<Shown> {
  const set = await answered(api.GET('/datasets/{dataset_id}', { params: { path: { dataset_id } } }))
  const path = { dataset_id, number: Number(number) }
  const version = number ? await answered(api.GET('/datasets/{dataset_id}/versions/{number}', { params: { path } })) : set.latest
  const reads = set.state === 'ingesting' && set.job
  const job = reads ? await answered(api.GET('/jobs/{job_id}', { params: { path: { job_id: reads } } })) : null
  return { set, version, job }
}

export function Dataset({ id, number }: { id: string; number: string | undefined }): JSX.Element {
  const shown = useLoaded(() => ask(id, number), `${id}@${number}`, ({ set }) => (set.state === 'ingesting' ? 1000 : 0))
  const w = words.value
  if (!shown.data.value) return <><Trouble refusal={shown.refusal.value} />{!shown.refusal.value && <p role="status">{w.loading}</p>}</>
  const { set, version, job } = shown.data.value
  return (
    <>
      <div class="title">
        <div><h1>{set.name}{version && <span class="quiet"> @{version.number}</span>}</h1><div><State is={set.state} /></div></div>
        {version && <a class="button primary" href={href(['train'], { dataset: `${id}@${version.number}` })}>{w.trainOnThis}</a>}
      </div>
      <Trouble refusal={shown.refusal.value} />
      {job && <Reading job={job} />}
      {set.error && <Question set={set} error={set.error} done={shown.reload} />}
      {version && <Report version={version} />}
      {version && <Gallery version={version} />}
    </>
  )
}

function Reading({ job }: { job: Shapes['Job'] }): JSX.Element {
  const w = words.value
  return (
    <section class="card">
      <h2>{w.reading_}</h2>
      <progress max={1} value={job.progress} aria-label={w.reading_} />
      <p class="quiet" role="status">{w.phases[job.phase ?? ''] ?? w.states[job.state]}{job.eta ? ` · ${w.left(duration(job.eta))}` : ''}</p>
      <p class="quiet">{w.readingHint}</p>
      <p><a href={href(['jobs', job.id])}>{w.details}</a></p>
    </section>
  )
}

function Question({ set, error, done }: { set: Shapes['Dataset']; error: Shapes['Error']; done: () => void }): JSX.Element {
  const picked = useSignal(0)
  const refusal = useSignal<Refusal | undefined>(undefined)
  const options = error.options ?? []
  const w = words.value
  const answer = async (event: Event): Promise<void> => {
    event.preventDefault()
    const body = { [error.param ?? 'layout']: options[picked.value]?.value }
    try {
      await answered(api.POST('/datasets/{dataset_id}/answers', { params: { path: { dataset_id: set.id } }, body: body as never }))
      done()
    } catch (problem) {
      refusal.value = Refusal.of(problem)
    }
  }
  return (
    <form class="card" onSubmit={answer}>
      <h2>{options.length ? w.question : w.failed}</h2>
      <p>{error.message}</p>
      {error.hint && <p class="quiet">{error.hint}</p>}
      <fieldset>
        <legend class="hidden">{w.question}</legend>
        {options.map((option, index) => (
          <label class="choice" key={index}>
            <input type="radio" name="answer" checked={picked.value === index} onChange={() => (picked.value = index)} />
            <span>{option.meaning}</span>
          </label>
        ))}
      </fieldset>
      <Trouble refusal={refusal.value} manual />
      {options.length > 0 && <div><button class="primary" type="submit">{w.answer}</button></div>}
    </form>
  )
}

const CLASSES = 200
const SPLITS = ['train', 'val', 'test'] as const

function Report({ version }: { version: Shapes['DatasetVersion'] }): JSX.Element {
  const w = words.value
  const of = (split: string, name: string): number => version.counts[split]?.[name] ?? 0
  const total = (name: string): number => SPLITS.reduce((sum, split) => sum + of(split, name), 0)
  const most = Math.max(1, ...version.classes.map(total))
  const here = SPLITS.filter((split) => version.counts[split])
  const left = Object.entries(version.rejected)
  const aside = Object.entries(version.skipped)
  return (
    <section>
      <h2>{w.report}</h2>
      <dl class="facts">
        <Fact name={w.images}>{count(version.images)}</Fact>
        <Fact name={w.classes}>{count(version.classes.length)}</Fact>
        <Fact name={w.size}>{bytes(version.bytes)}</Fact>
      </dl>
      {version.reading && <p class="quiet">{version.reading}</p>}
      <div class="columns">
        <section>
          <h3>{w.findings}</h3>
          {version.findings.length === 0 && left.length === 0 && <p class="note good">{w.nothingFound}</p>}
          {version.findings.map((finding) => (
            <div key={finding.code} class={`note ${finding.severity}`}>
              <strong>{finding.message}</strong>
              {finding.examples.length > 0 && <details><summary>{count(finding.count)}</summary><pre>{finding.examples.join('\n')}</pre></details>}
            </div>
          ))}
          {left.length > 0 && <div class="note warning"><strong>{w.rejected}</strong>{left.map(([code, files]) => <p key={code}>{count(files)} × <code>{code}</code></p>)}</div>}
          {aside.length > 0 && <div class="note"><strong>{w.skipped}</strong>{aside.map(([code, files]) => <p key={code}>{count(files)} × <code>{code}</code></p>)}</div>}
        </section>
        <section>
          <h3>{w.perClass}</h3>
          <div class="row small">{here.map((split) => <span class="key" key={split}><i class={split} />{split}</span>)}</div>
          <ul class="bars">
            {version.classes.slice(0, CLASSES).map((name) => (
              <li key={name}>
                <span title={name}>{name}</span>
                <span class="bar">{here.map((split) => <i key={split} class={split} title={`${split}: ${of(split, name)}`} style={{ width: `${(100 * of(split, name)) / most}%` }} />)}</span>
                <span class="number" title={here.map((split) => `${split}: ${of(split, name)}`).join(', ')}>{count(total(name))}</span>
              </li>
            ))}
          </ul>
          {version.classes.length > CLASSES && <p class="quiet">{w.firstOf(CLASSES, version.classes.length)}</p>}
        </section>
      </div>
    </section>
  )
}
