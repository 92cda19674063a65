/** The upload on screens other than its own: how far it is, or the data set that it has become. */
import type { JSX } from 'preact'
import { href } from '../address'
import { percent, words } from '../language'
import { scanning } from '../upload/choice'
import { ended, running } from '../upload/running'

export function UploadLine(): JSX.Element | null {
  const sending = running.value
  const w = words.value
  if (scanning.value) return <p class="note" role="status">{w.scanning}</p>
  if (ended.value) {
    const { id, name } = ended.value
    return <p class="note good" role="status">{w.arrived} <a href={href(['datasets', id])} onClick={() => (ended.value = null)}>{name}</a></p>
  }
  if (!sending) return null
  const state = sending.refusal.value ? w.failed : sending.paused.value ? w.paused : w.sending
  return <p class="note"><a href="#/datasets/new">{sending.name.value || sending.choice.filename}</a> {state} · {percent(sending.sent.value / Math.max(1, sending.size), 0)}</p>
}
