/** Where files are dropped or chosen; a choice leads to the screen that looks at it. */
import type { JSX, TargetedEvent } from 'preact'
import { useRef } from 'preact/hooks'
import { go } from '../address'
import { words } from '../language'
import { chosen, look, picked } from '../upload/choice'

export function DropZone(): JSX.Element {
  const folder = useRef<HTMLInputElement>(null)
  const files = useRef<HTMLInputElement>(null)
  const w = words.value
  const take = (event: TargetedEvent<HTMLInputElement>): void => {
    if (!event.currentTarget.files?.length) return
    chosen.value = look(picked(event.currentTarget.files))
    go(['datasets', 'new'])
  }
  return (
    <div class="drop">
      <svg width="44" height="44" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
        <path d="M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2zM12 16v-5M9.5 13l2.5-2.5 2.5 2.5" />
      </svg>
      <h2>{w.drop}</h2>
      <p class="quiet">{w.dropHint}</p>
      <div class="row">
        <button type="button" class="primary" onClick={() => folder.current?.click()}>{w.pickFolder}</button>
        <button type="button" onClick={() => files.current?.click()}>{w.pickFiles}</button>
      </div>
      <input ref={folder} type="file" hidden data-pick="folder" onChange={take} {...{ webkitdirectory: true }} />
      <input ref={files} type="file" hidden multiple data-pick="files" onChange={take} />
    </div>
  )
}
