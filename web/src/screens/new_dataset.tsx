/** A new data set: what would be sent, then sending it. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { answered, api, Refusal } from '../api'
import { go } from '../address'
import { bytes, count, duration, words } from '../language'
import { DropZone } from '../parts/drop_zone'
import { Fact, Trouble } from '../parts/pieces'
import { type Choice, chosen, packed } from '../upload/choice'
import { Sending } from '../upload/send'

export function NewDataset(): JSX.Element {
  const w = words.value
  return (
    <>
      <h1>{w.newData}</h1>
      {chosen.value ? <Chosen key={chosen.value.name} choice={chosen.value} /> : <DropZone />}
    </>
  )
}

function Chosen({ choice }: { choice: Choice }): JSX.Element {
  const name = useSignal(choice.name)
  const sending = useSignal<Sending | null>(null)
  const refusal = useSignal<Refusal | undefined>(undefined)
  const w = words.value
  const create = async (upload: string): Promise<void> => {
    try {
      const body = { upload, name: name.value || undefined }
      const job = await answered(api.POST('/datasets', { body: body as never }))
      chosen.value = null
      go(['datasets', (job.dataset ?? '').split('@')[0] ?? ''])
    } catch (error) {
      sending.value = null
      refusal.value = error instanceof Refusal ? error : undefined
    }
  }
  const send = (): void => {
    refusal.value = undefined
    sending.value = new Sending(packed(choice), choice.name, (id) => void create(id))
    void sending.value.start()
  }
  const known = choice.archive !== null
  const usable = known || choice.images.length > 0
  const classes = [...choice.classes].sort(([a], [b]) => a.localeCompare(b))
  const most = Math.max(1, ...choice.classes.values())
  return (
    <div class="columns">
      <section>
        <h2>{w.beforeSending}</h2>
        <dl class="facts">
          {!known && <Fact name={w.images}>{count(choice.images.length)}</Fact>}
          {!known && <Fact name={w.classes}>{count(classes.length)}</Fact>}
          <Fact name={w.size}>{bytes(choice.bytes)}</Fact>
        </dl>
        {!usable && <p class="note error" role="alert">{w.noImages}</p>}
        {usable && !known && classes.length < 2 && <p class="note warning">{w.oneClass}</p>}
        {choice.skipped > 0 && <p class="note">{w.skippedFiles(count(choice.skipped))}</p>}
        {classes.length > 0 && <h3>{w.byFolder}</h3>}
        <ul class="bars">
          {classes.slice(0, 200).map(([folder, images]) => (
            <li key={folder}>
              <span>{folder || '–'}</span>
              <span class="bar"><i style={{ width: `${(100 * images) / most}%` }} /></span>
              <span class="number">{count(images)}</span>
            </li>
          ))}
        </ul>
      </section>
      <section class="card">
        <Trouble refusal={refusal.value} />
        {sending.value ? (
          <Progress sending={sending.value} />
        ) : (
          <>
            <label>{w.name}<input type="text" maxLength={100} value={name.value} onInput={(event) => (name.value = event.currentTarget.value)} /></label>
            <div class="row">
              <button type="button" class="primary" disabled={!usable} onClick={send}>{w.upload}</button>
              <button type="button" onClick={() => (chosen.value = null)}>{w.other}</button>
            </div>
          </>
        )}
      </section>
    </div>
  )
}

function Progress({ sending }: { sending: Sending }): JSX.Element {
  const w = words.value
  const { size } = sending.body
  const left = sending.speed.value > 0 ? (size - sending.sent.value) / sending.speed.value : 0
  return (
    <>
      <p role="status"><strong>{sending.paused.value ? w.paused : w.sending}</strong></p>
      <progress max={size} value={sending.sent.value} aria-label={w.sending} />
      <p class="quiet">
        {w.sent(bytes(sending.sent.value), bytes(size))}
        {sending.speed.value > 0 && ` · ${w.perSecond(bytes(sending.speed.value))} · ${w.left(duration(left))}`}
      </p>
      {sending.failure.value && <p class="note error" role="alert">{sending.failure.value}</p>}
      <div class="row">
        {sending.paused.value || sending.failure.value
          ? <button type="button" class="primary" onClick={() => sending.resume()}>{w.resume}</button>
          : <button type="button" onClick={() => sending.pause()}>{w.pause}</button>}
        <button type="button" class="plain" onClick={() => void sending.stop().then(() => (chosen.value = null))}>{w.cancel}</button>
      </div>
    </>
  )
}
