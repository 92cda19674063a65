/** Data for a screen: asked for when it is shown, again while it changes, and kept while the api is away. */
import { type Signal, useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Refusal } from './api'

export type Loaded<T> = { data: Signal<T | undefined>; refusal: Signal<Refusal | undefined>; reload: () => void }

/**
 * Ask for data whenever `key` changes, and every `every(data)` milliseconds while that is not zero.
 * While the service does not answer, what was there stays and the question is asked again.
 */
export function useLoaded<T>(ask: () => Promise<T>, key: string, every: (data: T) => number = () => 0): Loaded<T> {
  const data = useSignal<T | undefined>(undefined)
  const refusal = useSignal<Refusal | undefined>(undefined)
  const turn = useSignal(0)
  const shown = useSignal(key)
  useEffect(() => {
    let timer = 0
    let gone = false
    if (shown.value !== key) data.value = undefined
    shown.value = key
    const step = async (): Promise<void> => {
      let wait = 0
      try {
        const found = await ask()
        if (gone) return
        data.value = found
        refusal.value = undefined
        wait = every(found)
      } catch (error) {
        if (gone) return
        refusal.value = error instanceof Refusal ? error : new Refusal({ code: 'page', detail: String(error), hint: null }, 0)
        const passing = refusal.value.status === 0 || refusal.value.status >= 500
        wait = passing ? 2000 : 0
      }
      if (wait) timer = window.setTimeout(step, wait)
    }
    void step()
    return () => {
      gone = true
      clearTimeout(timer)
    }
  }, [key, turn.value])
  return { data, refusal, reload: () => void (turn.value += 1) }
}
