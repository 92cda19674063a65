/** Whether the service wants a key that the browser does not send. */
import { signal } from '@preact/signals'

export const signedOut = signal(false)

/** Hand a key over for the cookie that no script can read; true where it is accepted. */
export async function signIn(key: string): Promise<boolean> {
  // A header holds bytes: the letters of a key travel as UTF-8, one character for each byte.
  const bytes = Array.from(new TextEncoder().encode(key), (byte) => String.fromCharCode(byte)).join('')
  const answer = await fetch('/session', { method: 'POST', headers: { Authorization: `Bearer ${bytes}` } })
  signedOut.value = !answer.ok
  return answer.ok
}

export async function signOut(): Promise<void> {
  await fetch('/session', { method: 'DELETE' })
  location.reload()
}
