/** Whether the service wants a key that the browser does not send. */
import { signal } from '@preact/signals'

export const signedOut = signal(false)

/** Hand a key over for the cookie that no script can read; null where the service does not answer. */
export async function signIn(key: string): Promise<boolean | null> {
  // A header holds bytes: the letters of a key travel as UTF-8, one character for each byte.
  const bytes = Array.from(new TextEncoder().encode(key), (byte) => String.fromCharCode(byte)).join('')
  const answer = await fetch('/session', { method: 'POST', headers: { Authorization: `Bearer ${bytes}` } }).catch(() => null)
  if (!answer || answer.status >= 500) return null
  signedOut.value = !answer.ok
  return answer.ok
}

/** Let the browser forget the key; false where the service does not answer. */
export async function signOut(): Promise<boolean> {
  const answer = await fetch('/session', { method: 'DELETE' }).catch(() => null)
  if (answer?.ok) location.reload()
  return answer?.ok ?? false
}

/** Whether a key still opens anything, at a time in milliseconds since 1970. */
export function stateOf(key: { revoked_at: string | null; expires_at: string | null }, now: number): 'revoked' | 'expired' | 'ready' {
  if (key.revoked_at) return 'revoked'
  return key.expires_at && Date.parse(key.expires_at) <= now ? 'expired' : 'ready'
}
