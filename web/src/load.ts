/** Data for a screen: asked for when it is shown, again while it changes, and kept while the api is away. */
import { type Signal, useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Refusal } from './api'

export type Loaded<T> = { data: Signal<T | undefined>; refusal: Signal<Refusal | undefined>; reload: () => void }

type Page<T> = { data: T[]; has_more?: boolean; last_id?: string | null }
/** Some pages of a list, and whether another one follows. */
export type Rows<T> = { rows: T[]; more: boolean }

/** Read a list from its beginning: so many pages, or all of them. */
export async function collected<T>(ask: (after: string | undefined) => Promise<Page<T>>, pages = Infinity): Promise<Rows<T>> {
  const rows: T[] = []
  let after: string | undefined
  for (let page = 0; page < pages; page += 1) {
    const found = await ask(after)
    rows.push(...found.data)
    if (!found.has_more || !found.last_id) return { rows, more: false }
    after = found.last_id
  }
  return { rows, more: true }
}

/** A list that is shown page by page, and asked for again as far as it is shown. */
export function usePages<T>(ask: (after: string | undefined) => Promise<Page<T>>, key: string, every: () => number = () => 0): Loaded<Rows<T>> & { next: () => void } {
  const pages = useSignal(1)
  const loaded = useLoaded(() => collected(ask, pages.value), key, every)
  const next = (): void => {
    pages.value += 1
    loaded.reload()
  }
  return { ...loaded, next }
}

/** How long to wait, in milliseconds, before what was refused is asked again; 0 where asking is in vain. */
export function pause(status: number): number {
  if (status === 408 || status === 429) return 5000
  return status === 0 || status >= 500 ? 2000 : 0
}

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
        refusal.value = Refusal.of(error)
        wait = pause(refusal.value.status)
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
