/** A key for services that ask for one. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { words } from '../language'
import { Problem } from '../parts/pieces'
import { signIn } from '../session'

export function SignIn(): JSX.Element {
  const key = useSignal('')
  const accepted = useSignal<boolean | null | undefined>(undefined)
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault()
    accepted.value = await signIn(key.value.trim())
  }
  const w = words.value
  return (
    <form class="card" onSubmit={submit}>
      <h1>{w.signIn}</h1>
      <p class="quiet">{w.signInHint}</p>
      <label>
        {w.key}
        <input type="password" autocomplete="current-password" required value={key.value} onInput={(event) => (key.value = event.currentTarget.value)} />
      </label>
      {(accepted.value === false || accepted.value === null) && <Problem message={accepted.value === null ? w.unreachable : w.wrongKey} />}
      <div><button class="primary" type="submit">{w.signIn}</button></div>
    </form>
  )
}
