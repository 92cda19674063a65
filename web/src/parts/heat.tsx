/** What each part of an image has added to a class, laid over it. */
import { signal } from '@preact/signals'
import type { ComponentChildren, JSX } from 'preact'
import type { Shapes } from '../api'
import { words } from '../language'

/** Whether heat maps are shown, of this image and of the next ones. */
const shown = signal(false)

export const heated = (): boolean => shown.value

/** The switch; whoever shows it knows that the model has heat maps. */
export function HeatSwitch(): JSX.Element {
  const w = words.value
  return (
    <div class="row">
      <label class="row"><input type="checkbox" checked={shown.value} onChange={(event) => (shown.value = event.currentTarget.checked)} />{w.showHeat}</label>
      {shown.value && <span class="quiet small">{w.heatHint}</span>}
    </div>
  )
}

/** An image, and over the part of it that the network saw, a map. */
export function Heated({ heat, children }: { heat: Shapes['Heatmap'] | null | undefined; children: ComponentChildren }): JSX.Element {
  const share = (of: number): string => `${100 * of}%`
  return (
    <span class="heated">
      {children}
      {heat && (
        <img
          alt="" data-heat={heat.label} src={`data:image/png;base64,${heat.png}`}
          style={{ left: share(heat.box.left), top: share(heat.box.top), width: share(heat.box.right - heat.box.left), height: share(heat.box.bottom - heat.box.top) }}
        />
      )}
    </span>
  )
}
