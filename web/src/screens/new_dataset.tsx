/** A new data set: what would be sent, then sending it. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { bytes, count, duration, words } from '../language'
import { DropZone } from '../parts/drop_zone'
import { Fact, Trouble } from '../parts/pieces'
import { type Choice, chosen } from '../upload/choice'
import { begin, cancel, running } from '../upload/running'
import type { Sending } from '../upload/send'

const CLASSES = 200

export function NewDataset(): JSX.Element {
  const choice = chosen.value ?? running.value?.choice
  return (
    <>
      <h1>{words.value.newData}</h1>
      {choice ? <Chosen key={choice.id} choice={choice} /> : <DropZone />}
    </>
  )
}

function Chosen({ choice }: { choice: Choice }): JSX.Element {
  const name = useSignal(choice.name)
  const sending = running.value
  const w = words.value
  return (
    <div class="columns">
      <Preview choice={choice} />
      <section class="card">
        {sending?.choice === choice ? <Progress sending={sending} /> : (
          <>
            <label>{w.name}<input type="text" maxLength={100} value={name.value} onInput={(event) => (name.value = event.currentTarget.value)} /></label>
            {sending && <p class="note" role="status">{w.oneAtATime}</p>}
            <div class="row">
              <button type="button" class="primary" disabled={Boolean(sending) || choice.entries.length === 0} onClick={() => begin(choice, name)}>{w.upload}</button>
              <button type="button" onClick={() => (chosen.value = null)}>{sending ? w.toUpload : w.other}</button>
            </div>
          </>
        )}
      </section>
    </div>
  )
}

function Preview({ choice }: { choice: Choice }): JSX.Element {
  const w = words.value
  const known = choice.archive !== null
  const classes = [...choice.classes].sort(([a], [b]) => a.localeCompare(b))
  const most = Math.max(1, ...choice.classes.values())
  const others = choice.entries.length - choice.images - choice.tables
  return (
    <section>
      <h2>{w.beforeSending}</h2>
      <dl class="facts">
        {!known && <Fact name={w.images}>{count(choice.images)}</Fact>}
        {!known && <Fact name={w.classes}>{count(classes.length)}</Fact>}
        <Fact name={w.size}>{bytes(choice.bytes)}</Fact>
      </dl>
      {!known && choice.images === 0 && <p class={choice.entries.length ? 'note warning' : 'note error'} role="alert">{w.noImages}</p>}
      {!known && choice.images > 0 && classes.length < 2 && choice.tables === 0 && <p class="note warning">{w.oneClass}</p>}
      {choice.tables > 0 && <p class="note">{w.tables(choice.tables)}</p>}
      {!known && others > 0 && <p class="note">{w.others(others)}</p>}
      {classes.length > 0 && <h3>{w.byFolder}</h3>}
      <ul class="bars">
        {classes.slice(0, CLASSES).map(([folder, images]) => (
          <li key={folder}>
            <span>{folder || '–'}</span>
            <span class="bar"><i style={{ width: `${(100 * images) / most}%` }} /></span>
            <span class="number">{count(images)}</span>
          </li>
        ))}
      </ul>
      {classes.length > CLASSES && <p class="quiet">{w.firstOf(CLASSES, classes.length)}</p>}
    </section>
  )
}

function Progress({ sending }: { sending: Sending }): JSX.Element {
  const w = words.value
  const { size, sent, speed, name } = sending
  const left = speed.value > 0 ? (size - sent.value) / speed.value : 0
  const arrived = sending.arrived.value !== null
  const stopped = sending.paused.value || Boolean(sending.refusal.value)
  return (
    <>
      <p role="status"><strong>{sending.paused.value ? w.paused : arrived ? w.arrived : w.sending}</strong></p>
      <progress max={size} value={sent.value} aria-label={w.sending} />
      <p class="quiet">
        {w.sent(bytes(sent.value), bytes(size))}
        {!arrived && speed.value > 0 && ` · ${w.perSecond(bytes(speed.value))} · ${w.left(duration(left))}`}
      </p>
      <Trouble refusal={sending.refusal.value} />
      {arrived && stopped && <label>{w.name}<input type="text" maxLength={100} value={name.value} onInput={(event) => (name.value = event.currentTarget.value)} /></label>}
      <div class="row">
        {stopped && <button type="button" class="primary" onClick={() => sending.resume()}>{w.resume}</button>}
        {!stopped && !arrived && <button type="button" onClick={() => sending.pause()}>{w.pause}</button>}
        {(stopped || !arrived) && <button type="button" class="plain" onClick={cancel}>{w.cancel}</button>}
      </div>
    </>
  )
}

