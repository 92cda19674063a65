/** Addresses of the page: fragments, so that none of them is an address of the API. */
import { signal } from '@preact/signals'

export type Address = { parts: string[]; query: URLSearchParams }

/** Read `#/models/pets@3?split=val` as its parts and its query. */
export function read(hash: string): Address {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?')
  return { parts: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(query) }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** Write an address; empty values of the query are left out. */
export function href(parts: string[], query: Record<string, string | undefined> = {}): string {
  const kept = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]))
  const text = new URLSearchParams(kept).toString()
  return `#/${parts.map(encodeURIComponent).join('/').replaceAll('%40', '@')}${text && `?${text}`}`
}

export const address = signal<Address>(read(''))

/** Go to an address; the back button returns. */
export function go(parts: string[], query: Record<string, string | undefined> = {}): void {
  location.hash = href(parts, query)
}

/** Change filters of the address that is shown, without a step for the back button. */
export function filter(query: Record<string, string | undefined>): void {
  const now = { ...Object.fromEntries(address.value.query), ...query }
  history.replaceState(null, '', href(address.value.parts, now))
  address.value = read(location.hash)
}

/** Follow the browser's address. */
export function follow(): void {
  const update = (): void => void (address.value = read(location.hash))
  addEventListener('hashchange', update)
  update()
}
