/** A version as a file for other programs: the formats that are here, and orders for the others. */
import { useSignal } from '@preact/signals'
import type { ComponentChildren, JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import { answered, api, Refusal, type Shapes } from '../api'
import { bytes, words } from '../language'
import { pause, useLoaded } from '../load'
import { once } from '../once'
import { ENDED } from './job_list'
import { Problem, Scroll, Trouble } from './pieces'

// Every format that the API knows: the type checker asks for a name when there is another one.
const NAMES: Record<Shapes['ExportFormat'], string> = { onnx: 'ONNX', torch: 'PyTorch (torch.export)', bundle: 'ZIP (weights and card)' }
const FORMATS = Object.keys(NAMES) as Shapes['ExportFormat'][]

type Version = { name: string; number: number }

export function Exports({ name, number }: Version): JSX.Element {
  const params = { path: { name, number } }
  const loaded = useLoaded(() => answered(api.GET('/models/{name}/versions/{number}/exports', { params })), `${name}@${number}`)
  const w = words.value
  const here = loaded.data.value?.data ?? []
  return (
    <section>
      <h2>{w.exports}</h2>
      <p class="quiet">{w.exportHint}</p>
      <Trouble refusal={loaded.refusal.value} />
      {here.length > 0 && (
        <Scroll label={w.exports}>
          <table><tbody>{here.flatMap((one) => Object.entries(one.files).map(([file, { size }]) => (
            <tr key={`${one.format} ${file}`}><th scope="row"><a href={one.links[`files/${file}`]} download={file}>{file}</a></th><td class="number quiet">{bytes(size)}</td></tr>
          )))}</tbody></table>
        </Scroll>
      )}
      {here.map(({ format, report: { held_out } }) => held_out && <p key={format} class="quiet small">{format}: {w.alike(held_out.alike, held_out.images)}</p>)}
      {loaded.data.value && FORMATS.filter((format) => !here.some((one) => one.format === format)).map((format) => (
        <Order key={`${name}@${number} ${format}`} name={name} number={number} format={format} done={loaded.reload} />
      ))}
    </section>
  )
}

/** Order a format; asked for again, the service answers with the job that is under way. */
function Order({ name, number, format, done }: Version & { format: Shapes['ExportFormat']; done: () => void }): JSX.Element {
  const ordered = useSignal<{ id: string; times: number } | null>(null)
  const refusal = useSignal<Refusal | undefined>(undefined)
  const order = async (): Promise<void> => {
    try {
      const path = { name, number }
      const send = (header: object) => answered(api.POST('/models/{name}/versions/{number}/exports', { params: { path, header }, body: { format } }))
      const { id } = await once(['export', path, format], send)
      ordered.value = { id, times: (ordered.value?.times ?? 0) + 1 }
      refusal.value = undefined
    } catch (problem) {
      refusal.value = Refusal.of(problem)
    }
  }
  const button = <div><button type="button" onClick={() => void order()}>{words.value.exportAs(NAMES[format])}</button></div>
  return (
    <>
      <Trouble refusal={refusal.value} manual />
      {/* A job that was retried elsewhere is ordered again under the same id, and is to be asked about anew. */}
      {ordered.value ? <Writing key={ordered.value.times} id={ordered.value.id} format={format} done={done}>{button}</Writing> : button}
    </>
  )
}

type Ordered = { id: string; format: Shapes['ExportFormat']; children: ComponentChildren }

function Writing({ done, ...ordered }: Ordered & { done: () => void }): JSX.Element {
  const { id, children } = ordered
  const loaded = useLoaded(() => answered(api.GET('/jobs/{job_id}', { params: { path: { job_id: id } } })), id, ({ state }) => (ENDED.includes(state) ? 0 : 1000))
  const job = loaded.data.value
  useEffect(() => {
    if (job?.state === 'succeeded') done()
  }, [job?.state])
  const refusal = loaded.refusal.value
  return (
    <>
      <Trouble refusal={refusal} />
      {refusal && !pause(refusal.status) ? children : <Course state={job?.state ?? 'queued'} error={job?.error} {...ordered} />}
    </>
  )
}

type Told = { state: Shapes['Job']['state']; error: Shapes['Job']['error'] | undefined }

/** How far an order has come; below one that came to nothing are `children`, which order it again. */
export function Course({ id, format, state, error, children }: Ordered & Told): JSX.Element {
  const over = ENDED.includes(state)
  const w = words.value
  return (
    <>
      <p class="quiet" role="status">{over ? NAMES[format] : w.exporting(NAMES[format])} · <a href={`#/jobs/${id}`}>{w.states[state] ?? state}</a></p>
      {error && <Problem {...error} />}
      {over && state !== 'succeeded' && children}
    </>
  )
}
