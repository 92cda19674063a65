/** A training: three choices, and beside them the plan that would run. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import { answered, api, Refusal, type Shapes } from '../api'
import { address, filter, go } from '../address'
import { count, duration, percent, words } from '../language'
import { collected, pause, useLoaded } from '../load'
import { once } from '../once'
import { Command, Empty, Fact, Trouble } from '../parts/pieces'
import { PlanTable } from '../parts/plan'
import { asCommand, asCurl, asPython, type Effort, type Fit, type Form, proposed, request, whereabouts } from '../training'

const EFFORTS: Effort[] = ['fast', 'balanced', 'best']
const FITS: Fit[] = ['auto', 'crop', 'pad', 'squash']

async function choices(): Promise<{ sets: Shapes['Dataset'][]; networks: Shapes['Architecture'][] }> {
  const all = { limit: 1000 }
  const [sets, networks] = await Promise.all([
    collected((after) => answered(api.GET('/datasets', { params: { query: { ...all, state: 'ready', ...(after ? { after } : {}) } } }))),
    answered(api.GET('/architectures', { params: { query: all as never } })),
  ])
  return { sets: sets.rows, networks: networks.data }
}

export function Train(): JSX.Element {
  const loaded = useLoaded(choices, 'choices')
  const w = words.value
  const found = loaded.data.value
  return (
    <>
      <h1>{w.train}</h1>
      <Trouble refusal={loaded.refusal.value} />
      {found?.sets.length === 0 && <Empty title={w.noData} hint={w.noDataHint}><a class="button primary" href="#/datasets/new">{w.addImages}</a></Empty>}
      {found && found.sets.length > 0 && <Planner sets={found.sets} networks={found.networks} />}
    </>
  )
}

const newest = (set: Shapes['Dataset'] | undefined): string => (set ? `${set.id}@${set.latest?.number ?? 1}` : '')

async function numbers(dataset_id: string): Promise<number[]> {
  const versions = await answered(api.GET('/datasets/{dataset_id}/versions', { params: { path: { dataset_id } } }))
  return versions.data.map(({ number }) => number).sort((a, b) => b - a)
}

function Planner({ sets, networks }: { sets: Shapes['Dataset'][]; networks: Shapes['Architecture'][] }): JSX.Element {
  const query = address.value.query
  const form = useSignal<Form>({
    dataset: query.get('dataset') ?? newest(sets[0]),
    architecture: query.get('architecture') ?? proposed(networks),
    effort: (query.get('effort') as Effort | null) ?? 'balanced',
    fit: (query.get('fit') as Fit | null) ?? 'auto',
    name: query.get('name') ?? '', epochs: query.get('epochs') ?? '', batch: query.get('batch') ?? '', rate: query.get('rate') ?? '', seed: query.get('seed') ?? '',
  })
  const plan = useSignal<Shapes['Plan'] | null>(null)
  const before = useSignal<Shapes['Plan'] | null>(null)
  const refusal = useSignal<Refusal | undefined>(undefined)
  const refused = useSignal<Refusal | undefined>(undefined) // To start; the plan may be in order.
  const planning = useSignal(false)
  const starting = useSignal(false)
  const [chosen = ''] = form.value.dataset.split('@')
  const versions = useLoaded(() => numbers(chosen), chosen)
  const body = request(form.value)
  const key = JSON.stringify(body)
  useEffect(() => {
    let gone = false
    filter({ ...form.value })
    planning.value = true
    refused.value = undefined
    const look = async (): Promise<void> => {
      try {
        const asked = api.POST('/finetune', { params: { query: { dry_run: true } }, body: body as never })
        const found = (await answered(asked)) as unknown as Shapes['Plan']
        if (gone) return
        before.value = plan.value
        plan.value = found
        refusal.value = undefined
      } catch (problem) {
        if (gone) return
        refusal.value = Refusal.of(problem)
        const wait = pause(refusal.value.status)
        if (wait) timer = window.setTimeout(look, wait)
      }
      if (!gone) planning.value = false
    }
    let timer = window.setTimeout(look, 300)
    return () => {
      gone = true
      clearTimeout(timer)
    }
  }, [key])
  const start = async (event: Event): Promise<void> => {
    event.preventDefault()
    if (starting.value) return
    starting.value = true
    try {
      const send = (header: object) => answered(api.POST('/finetune', { params: { header }, body: body as never }))
      const job = (await once(['training', body], send)) as unknown as Shapes['Job']
      go(['jobs', job.id])
    } catch (problem) {
      refused.value = Refusal.of(problem)
    }
    starting.value = false
  }
  const w = words.value
  const set = (change: Partial<Form>): void => void (form.value = { ...form.value, ...change })
  const network = networks.find(({ name }) => name === form.value.architecture)
  const hints = { fast: w.fastHint, balanced: w.balancedHint, best: w.bestHint }
  const fits = { auto: w.auto, crop: w.fitCrop, pad: w.fitPad, squash: w.fitSquash }
  const field = (name: 'epochs' | 'batch' | 'rate' | 'seed', title: string): JSX.Element => (
    <label>{title}<input type="number" min="0" step="any" placeholder={w.auto} value={form.value[name]} onInput={(event) => set({ [name]: event.currentTarget.value })} /></label>
  )
  return (
    <div class="columns">
      <form onSubmit={start} style={{ display: 'grid', gap: '1.25rem' }}>
        <label>
          {w.dataset}
          <select value={chosen} onChange={(event) => set({ dataset: newest(sets.find(({ id }) => id === event.currentTarget.value)) })}>
            {!sets.some(({ id }) => id === chosen) && <option>{chosen}</option>}
            {sets.map(({ id, name }) => <option key={id} value={id}>{name}</option>)}
          </select>
        </label>
        <label>
          {w.version}
          <select value={form.value.dataset} onChange={(event) => set({ dataset: event.currentTarget.value })}>
            {!versions.data.value?.some((number) => `${chosen}@${number}` === form.value.dataset) && <option>{form.value.dataset}</option>}
            {versions.data.value?.map((number) => <option key={number} value={`${chosen}@${number}`}>{number}</option>)}
          </select>
        </label>
        <Trouble refusal={versions.refusal.value} />
        <label>
          {w.network}
          <select value={form.value.architecture} onChange={(event) => set({ architecture: event.currentTarget.value })}>
            {networks.map((one) => (
              <option key={one.name} value={one.name}>{one.name}{one.weights ? ` · ${percent(one.weights.top1 / 100)} · ${w[whereabouts(one.weights)]}` : ''}</option>
            ))}
          </select>
          {network && <span class="quiet small">{[network.title, `${count(Math.round(network.parameters / 1e5) / 10)} M ${w.parameters}`, network.weights?.license].filter(Boolean).join(' · ')}</span>}
        </label>
        <fieldset>
          <legend>{w.effort}</legend>
          {EFFORTS.map((effort) => (
            <label class="choice" key={effort}>
              <input type="radio" name="effort" checked={form.value.effort === effort} onChange={() => set({ effort })} />
              <span><strong>{w[effort]}</strong><br /><span class="quiet">{hints[effort]}</span></span>
            </label>
          ))}
        </fieldset>
        <label>{w.name}<input type="text" placeholder={plan.value?.name ?? ''} maxLength={63} value={form.value.name} onInput={(event) => set({ name: event.currentTarget.value })} /></label>
        <details>
          <summary>{w.more}</summary>
          <label>
            {w.fit}
            <select value={form.value.fit} onChange={(event) => set({ fit: event.currentTarget.value as Fit })}>
              {FITS.map((fit) => <option key={fit} value={fit}>{fits[fit]}</option>)}
            </select>
            <span class="quiet small">{w.fitHint}</span>
          </label>
          <div class="columns">{field('epochs', w.epochs)}{field('batch', w.batch)}{field('rate', w.rate)}{field('seed', w.seed)}</div>
        </details>
        <Trouble refusal={refused.value} manual />
        <div><button class="primary" type="submit" disabled={!plan.value || Boolean(refusal.value) || starting.value}>{w.start}</button></div>
        <details>
          <summary>{w.copyAs}</summary>
          <Command name="curl" text={asCurl(body, location.origin)} />
          <Command name="Topwork" text={asCommand(body)} />
          <Command name="Python" text={asPython(body)} />
        </details>
      </form>
      <section aria-busy={planning.value}>
        <h2>{w.plan}</h2>
        <p class="quiet" role="status">{planning.value ? w.planning : w.planHint}</p>
        <Trouble refusal={refusal.value} />
        {plan.value && !refusal.value && (
          <>
            <dl class="facts"><Fact name={plan.value.name}>{w.eta(duration(plan.value.eta))}</Fact></dl>
            {plan.value.findings.filter(({ severity }) => severity !== 'info').map((finding) => <p key={finding.code} class={`note ${finding.severity}`}>{finding.message}</p>)}
            <PlanTable plan={plan.value.plan} before={before.value?.plan} />
          </>
        )}
      </section>
    </div>
  )
}
