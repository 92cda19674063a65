/** A grid of thumbnails of any length: only the rows in sight are in the document. */
import { useSignal } from '@preact/signals'
import type { ComponentChildren, JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'

export type Tile = { key: string; src: string; title: string; caption: string; out?: boolean; changed?: boolean }

const HEIGHT = 168
const WIDTH = 140
const ABOVE = 1 // Rows kept beyond each edge, so that scrolling shows no gaps.

/** The rows from `first` up to and without `last` that a scroll position shows. */
export function rowsInSight(top: number, height: number, rows: number): { first: number; last: number } {
  const first = Math.max(0, Math.floor(top / HEIGHT) - ABOVE)
  return { first, last: Math.min(rows, Math.ceil((top + height) / HEIGHT) + ABOVE) }
}

/** The tile that Tab reaches: the chosen one while it is in the document, else the first that is. */
export function reachable(chosen: number, from: number, to: number): number {
  return chosen >= from && chosen < to ? chosen : from
}

type Props = { label: string; tiles: Tile[]; more: () => void; act: (key: string, tile: Tile) => void; children: (tile: Tile) => ComponentChildren }

/**
 * `more` is called when the end comes into sight, `act` with a key that is pressed on a tile, and
 * `children` shows what can be done with the chosen one.
 */
export function Grid({ label, tiles, more, act, children }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null)
  const sight = useSignal({ top: 0, height: 600, width: 800 })
  const chosen = useSignal(0)
  const measure = (): void => {
    if (box.current) sight.value = { top: box.current.scrollTop, height: box.current.clientHeight, width: box.current.clientWidth }
  }
  useEffect(() => {
    measure()
    const watch = new ResizeObserver(measure)
    if (box.current) watch.observe(box.current)
    return () => watch.disconnect()
  }, [])
  const at = Math.min(chosen.value, Math.max(0, tiles.length - 1)) // A filter may have left fewer tiles.
  const columns = Math.max(1, Math.floor(sight.value.width / WIDTH))
  const width = sight.value.width / columns
  const rows = Math.ceil(tiles.length / columns)
  const { first, last } = rowsInSight(sight.value.top, sight.value.height, rows)
  useEffect(() => {
    if (last >= rows) more()
  }, [last, rows])
  const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }
  const press = (event: KeyboardEvent): void => {
    const step = steps[event.key]
    const tile = tiles[at]
    if (step !== undefined) {
      event.preventDefault()
      const next = Math.max(0, Math.min(tiles.length - 1, at + step))
      chosen.value = next
      const row = Math.floor(next / columns)
      const top = row * HEIGHT
      const { current } = box
      if (current && top < current.scrollTop) current.scrollTop = top
      if (current && top + HEIGHT > current.scrollTop + current.clientHeight) current.scrollTop = top + HEIGHT - current.clientHeight
      requestAnimationFrame(() => current?.querySelector<HTMLElement>(`[data-at="${next}"]`)?.focus({ preventScroll: true }))
    } else if (tile && !event.ctrlKey && !event.metaKey && !event.altKey) act(event.key, tile)
  }
  const shown = tiles.slice(first * columns, last * columns)
  const tab = reachable(at, first * columns, first * columns + shown.length)
  const one = tiles[at]
  return (
    <>
      <div ref={box} class="grid" role="group" aria-label={label} onScroll={measure} onKeyDown={press}>
        <div style={{ height: `${rows * HEIGHT}px` }}>
          {shown.map((tile, index) => {
            const place = first * columns + index
            const style = { top: `${Math.floor(place / columns) * HEIGHT}px`, left: `${(place % columns) * width}px`, width: `${width}px`, height: `${HEIGHT}px` }
            return (
              <button
                type="button" key={tile.key} data-at={place} title={tile.title} style={style}
                class={`tile${tile.out ? ' out' : ''}${tile.changed ? ' changed' : ''}`}
                aria-pressed={place === at} tabIndex={place === tab ? 0 : -1} onFocus={() => (chosen.value = place)} onClick={() => (chosen.value = place)}
              >
                <img src={tile.src} alt={tile.title} loading="lazy" decoding="async" />
                <span>{tile.caption}</span>
              </button>
            )
          })}
        </div>
      </div>
      {one && children(one)}
    </>
  )
}
