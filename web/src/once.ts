/** Creating POSTs that may be repeated: a lost answer makes nothing twice (Idempotency-Key). */
const keys = new Map<string, string>()

type Header = { 'Idempotency-Key': string }

// Not randomUUID, which browsers have for HTTPS alone.
const random = (): string => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')

/** Send with the key of this content; the same content keeps its key until it has been answered well. */
export async function once<T>(content: unknown, send: (header: Header) => Promise<T>): Promise<T> {
  const text = JSON.stringify(content)
  const key = keys.get(text) ?? random()
  keys.set(text, key)
  const answer = await send({ 'Idempotency-Key': key })
  keys.delete(text)
  return answer
}
