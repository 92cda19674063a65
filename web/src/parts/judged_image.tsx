/** An image that an evaluation has judged. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { answered, api, Refusal, type Shapes, thumbnail } from '../api'
import { words } from '../language'
import { Trouble } from './pieces'

/** Where the model has heat maps, pressing the image shows what spoke for its answer, and pressing it again the image alone. */
export function JudgedImage({ version, sha256, path }: { version: Shapes['ModelVersion']; sha256: string; path: string }): JSX.Element | null {
  const pressed = useSignal(false)
  const overlay = useSignal('')
  const refusal = useSignal<Refusal | undefined>(undefined)
  const { dataset, heatmap, model: name, number } = version
  if (!dataset?.id || !dataset.version) return null
  const shown = pressed.value && overlay.value
  const image = <img src={shown ? `data:image/png;base64,${overlay.value}` : thumbnail(dataset.id, dataset.version, sha256)} alt={path} loading="lazy" />
  if (!heatmap) return image
  const press = (): void => {
    pressed.value = !pressed.value
    if (!pressed.value || overlay.value) return
    refusal.value = undefined
    const params = { path: { name, number, sha256 }, query: { explain_overlay: true } }
    answered(api.GET('/models/{name}/versions/{number}/predictions/{sha256}/heatmap', { params })).then(
      (found) => (overlay.value = found.overlay ?? ''),
      (problem: unknown) => {
        refusal.value = Refusal.of(problem)
        pressed.value = false
      },
    )
  }
  return (
    <>
      <button type="button" class="picture" aria-pressed={pressed.value} title={words.value.explainAnswer} onClick={press}>{image}</button>
      <Trouble refusal={refusal.value} />
    </>
  )
}
