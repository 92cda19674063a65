/** One image and a model: what it is, and how sure the model is. */
import { signal, useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { answered, api, Refusal, type Shapes } from '../api'
import { go } from '../address'
import { decimal, percent, words } from '../language'
import { collected, useLoaded } from '../load'
import { Camera, canAsk } from '../parts/camera'
import { Heated, HeatSwitch, heated } from '../parts/heat'
import { Empty, Problem, Trouble } from '../parts/pieces'

/** The image that was dropped, pasted, chosen or taken. */
export const tried = signal<Blob | null>(null)
/** Whether the next image is asked of the camera, until somebody switches it off. */
const camera = signal(false)

const tryable = () => collected((after) => answered(api.GET('/models', { params: { query: { limit: 1000, ...(after ? { after } : {}) } } })))

export function Try({ model }: { model: string }): JSX.Element {
  const models = useLoaded(tryable, 'tryable')
  const w = words.value
  const found = models.data.value?.rows
  const own = found?.filter(({ source }) => source === 'own') ?? []
  const stock = found?.filter(({ source }) => source !== 'own') ?? []
  const reference = model || own[0]?.name || stock[0]?.name || ''
  const listed = found?.some(({ name }) => name === reference)
  useEffect(() => {
    const paste = (event: ClipboardEvent): void => {
      const image = Array.from(event.clipboardData?.files ?? []).find(({ type }) => type.startsWith('image/'))
      if (image) tried.value = image
    }
    addEventListener('paste', paste)
    return () => removeEventListener('paste', paste)
  }, [])
  return (
    <>
      <h1>{w.try}</h1>
      <Trouble refusal={models.refusal.value} />
      {found?.length === 0 && <Empty title={w.noModels} hint={w.noPredict}><a class="button primary" href="#/train">{w.trainModel}</a></Empty>}
      {reference && (
        <>
          <label>
            {w.model}
            <select value={reference} onChange={(event) => go(['try', event.currentTarget.value])}>
              {!listed && <option>{reference}</option>}
              {own.length > 0 && <optgroup label={w.ownModels}>{own.map(({ name }) => <option key={name}>{name}</option>)}</optgroup>}
              {stock.length > 0 && <optgroup label={w.imagenet}>{stock.map(({ name }) => <option key={name}>{name}</option>)}</optgroup>}
            </select>
          </label>
          {tried.value ? <Answer image={tried.value} model={reference} /> : <Ask />}
        </>
      )}
    </>
  )
}

function Ask(): JSX.Element {
  const file = useRef<HTMLInputElement>(null)
  const w = words.value
  return (
    <div class="drop">
      <h2>{w.tryHint}</h2>
      <div class="row">
        <button type="button" class={camera.value ? '' : 'primary'} onClick={() => file.current?.click()}>{w.pickFiles}</button>
        {canAsk() && <button type="button" onClick={() => (camera.value = !camera.value)}>{camera.value ? w.stopCamera : w.useCamera}</button>}
      </div>
      {!canAsk() && <p class="quiet small">{w.cameraSecure}</p>}
      {camera.value && <Camera take={(image) => (tried.value = image)} />}
      <input ref={file} type="file" hidden accept="image/*" data-pick="image" onChange={(event) => (tried.value = event.currentTarget.files?.[0] ?? null)} />
    </div>
  )
}

async function predict(image: Blob, model: string, explained?: string): Promise<Shapes['Prediction']> {
  const form = new FormData()
  form.append('file', image, image instanceof File ? image.name : 'image')
  form.append('model', model)
  form.append('top_k', '5')
  if (explained) {
    form.append('explain', 'heatmap')
    form.append('explain_class', explained)
  }
  const body = form as never
  return answered(api.POST('/predict', { body, bodySerializer: (whole: unknown) => whole as FormData }))
}

function Answer({ image, model }: { image: Blob; model: string }): JSX.Element {
  const answer = useSignal<Shapes['Prediction'] | null>(null)
  const refusal = useSignal<Refusal | undefined>(undefined)
  const url = useSignal('')
  const heat = useSignal<Shapes['Heatmap'] | null>(null)
  const other = useSignal('') // The class that is explained, if it is not the first one.
  const w = words.value
  useEffect(() => {
    const made = URL.createObjectURL(image)
    url.value = made
    return () => URL.revokeObjectURL(made)
  }, [image])
  useEffect(() => {
    let gone = false
    answer.value = null
    refusal.value = undefined
    predict(image, model).then(
      (found) => !gone && (answer.value = found),
      (problem: unknown) => !gone && (refusal.value = Refusal.of(problem)),
    )
    return () => void (gone = true)
  }, [image, model])
  const result = answer.value?.results[0]
  const ranked = result?.predictions ?? []
  const explains = Boolean(answer.value?.model.heatmap && result?.label)
  const wanted = explains && heated() ? (ranked.find(({ label }) => label === other.value)?.label ?? result?.label ?? '') : ''
  useEffect(() => {
    let gone = false
    heat.value = null
    if (wanted) {
      predict(image, model, wanted).then(
        (found) => !gone && (heat.value = found.results[0]?.heatmap ?? null),
        (problem: unknown) => !gone && (refusal.value = Refusal.of(problem)),
      )
    }
    return () => void (gone = true)
  }, [image, model, wanted])
  const total = answer.value?.timing_ms['total']
  return (
    <div class="columns">
      <section>
        {url.value && <Heated heat={heat.value}><img class="photo" src={url.value} alt={image instanceof File ? image.name : ''} /></Heated>}
        {explains && <HeatSwitch />}
        {wanted && (
          <label class="row">{w.heatOf}<select aria-label={w.heatOf} value={wanted} onChange={(event) => (other.value = event.currentTarget.value)}>{ranked.map(({ label }) => <option key={label}>{label}</option>)}</select></label>
        )}
        <div><button type="button" onClick={() => (tried.value = null)}>{w.tryAgain}</button></div>
      </section>
      <section aria-live="polite">
        <Trouble refusal={refusal.value} manual />
        {!answer.value && !refusal.value && <p class="quiet">{w.predicting}</p>}
        {result?.error && <Problem {...result.error} />}
        {result?.label && (
          <>
            <h2>{result.label}</h2>
            {result.decision === 'abstain' && <p class="note">{result.reason === 'unknown' ? w.unknownImage : w.unsureAnswer}</p>}
            <ul class="bars">
              {ranked.map((one) => (
                <li key={one.index}>
                  <span title={one.label}>{one.label}</span>
                  <span class="bar"><i style={{ width: `${100 * one.confidence}%` }} /></span>
                  <span class="number">{percent(one.confidence)}</span>
                </li>
              ))}
            </ul>
            {total !== undefined && <p class="quiet small">{answer.value?.model.name}{answer.value?.model.version ? `@${answer.value.model.version}` : ''} · {w.took(decimal(total))}</p>}
          </>
        )}
      </section>
    </div>
  )
}
