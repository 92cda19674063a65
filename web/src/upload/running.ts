/** The one upload that runs, whichever screen is shown. */
import { signal } from '@preact/signals'
import { address, go } from '../address'
import { type Choice, chosen } from './choice'
import { Sending } from './send'

export const running = signal<Sending | null>(null)
/** The data set of an upload that ended while another screen, or another choice, was looked at. */
export const ended = signal<{ id: string; name: string } | null>(null)

const isShown = (choice: Choice): boolean => chosen.value === choice && address.value.parts.join('/') === 'datasets/new'

/** Send a choice; nobody is taken away from anything else when it ends. */
export function begin(choice: Choice, name: { value: string }): void {
  if (running.value) return
  const sending = new Sending(choice, name, (id) => {
    const shown = isShown(choice)
    if (running.value === sending) running.value = null
    if (chosen.value === choice) chosen.value = null
    if (shown) go(['datasets', id])
    else ended.value = { id, name: name.value || choice.filename }
  })
  ended.value = null
  running.value = sending
  void sending.start()
}

/** Give it up, here at once and in the service when it can be reached. */
export function cancel(): void {
  const sending = running.value
  if (!sending) return
  running.value = null
  if (chosen.value === sending.choice) chosen.value = null
  sending.stop()
}
