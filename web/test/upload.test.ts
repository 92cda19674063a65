import { DetailedError } from 'tus-js-client'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { api, Refusal } from '../src/api'
import { pause } from '../src/load'
import { once } from '../src/once'
import { signedOut } from '../src/session'
import { fingerprint, look, oneImage } from '../src/upload/choice'
import { isPassing, refuse, Sending } from '../src/upload/send'

const body = (text: string, lastModified = 1): Blob => new File([text], 'x', { lastModified })
const all = (paths: string[]) => look(paths.map((path) => ({ path, file: body('1234') })))

beforeEach(() => void (signedOut.value = false))
afterEach(() => {
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
  vi.useRealTimers()
})

test('whatever may hold labels or images is sent, and only what is hidden is not', () => {
  const sent = ['d/images/a.JPG', 'd/images/b.heic', 'd/images/c.avif', 'd/images/unnamed', 'd/labels.csv', 'd/splits/train.txt', 'd/a.xml', 'd/x.lst', 'd/y.ndjson', 'd/notes.pdf']
  const choice = all([...sent, 'd/.DS_Store', 'd/__MACOSX/a.jpg', 'd/.git/HEAD', 'd/Thumbs.db', 'd/@eaDir/a.jpg', 'd/desktop.ini'])
  expect(choice.entries.map(({ path }) => path)).toEqual(sent)
  expect([choice.name, choice.filename, choice.images, choice.tables, choice.bytes]).toEqual(['d', 'd.tar', 3, 5, 40])
})

test('an archive is sent under its own name', () => {
  for (const path of ['pets.zip', 'pets.tar.gz', 'pets.TGZ']) expect(all([path])).toMatchObject({ name: 'pets', filename: path })
  expect(all(['a.jpg', 'b.jpg']).filename).toBe('images.tar')
})

test('one image is tried, whatever its format', () => {
  for (const path of ['a.jpg', 'a.TIFF']) expect(oneImage(all([path]))).not.toBeNull()
  expect(oneImage(look([{ path: 'a.heic', file: new Blob(['1'], { type: 'image/heic' }) }]))).not.toBeNull()
  for (const paths of [['d/a.jpg'], ['a.zip'], ['labels.csv'], ['a.jpg', 'b.jpg'], []]) expect(oneImage(all(paths))).toBeNull()
})

test('an upload goes on with the same files alone', () => {
  const print = (path: string, text: string, time: number, path2 = 'd/b.jpg'): string =>
    fingerprint(look([{ path, file: body(text, time) }, { path: path2, file: body('xyz', 7) }]))
  const first = print('d/a.jpg', 'abcd', 1)
  expect(print('d/a.jpg', 'abcd', 1)).toBe(first)
  const others = [print('d/c.jpg', 'abcd', 1), print('d/a.jpg', 'abcd', 2), print('d/a.jpg', 'abcde', 1), print('d/a.jpg', 'abcd', 1, 'd/犬.jpg'), print('d/b.jpg', 'xyz', 7, 'd/a.jpg')]
  expect(new Set([first, ...others]).size).toBe(6)
  const archive = (time: number): string => fingerprint(look([{ path: 'pets.zip', file: body('1234', time) }]))
  expect(archive(1)).not.toBe(archive(2))
})

const answer = (status: number, text = '') => ({ getStatus: () => status, getBody: () => text })
const refused = (method: string, status: number, text?: string): Error | null => {
  try {
    refuse({ getMethod: () => method }, answer(status, text))
  } catch (error) {
    // As tus-js-client wraps what a hook throws.
    return new DetailedError('tus', error as Error, undefined as never, undefined as never)
  }
  return null
}

test('only an upload that is gone begins anew', () => {
  for (const status of [200, 204, 404, 410]) expect(refused('HEAD', status)).toBeNull()
  for (const status of [401, 403, 429, 503]) expect(refused('HEAD', status)).not.toBeNull()
  expect(refused('PATCH', 404)).not.toBeNull()
})

test('a refusal ends an upload with the words of the service, a passing one does not', () => {
  for (const status of [409, 423, 429, 500, 503]) expect(isPassing(refused('PATCH', status) as Error)).toBe(true)
  for (const status of [400, 401, 403, 413, 507]) expect(isPassing(refused('PATCH', status) as Error)).toBe(false)
  expect(isPassing(new DetailedError('the line is dead', null as never, null as never, null as never))).toBe(true)
  const full = refused('POST', 507, '{"code":"disk_full","detail":"The disk is full.","hint":"Make room."}') as DetailedError
  expect((full.causingError as Refusal).problem).toMatchObject({ code: 'disk_full', detail: 'The disk is full.', hint: 'Make room.' })
  signedOut.value = false
  refused('PATCH', 413)
  expect(signedOut.value).toBe(false)
  refused('PATCH', 401, 'no JSON')
  expect(signedOut.value).toBe(true)
})

test('an upload goes on by itself after the refusals after which the rest of the page does', async () => {
  vi.useFakeTimers()
  vi.stubGlobal('window', globalThis)
  const create = vi.spyOn(api, 'POST')
  for (const status of [400, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 507]) {
    create.mockReset().mockImplementation(async () => ({ error: undefined, response: new Response(null, { status }) }) as never)
    const sending = new Sending(all(['d/a.jpg']), { value: 'd' }, () => undefined)
    sending.arrived.value = 'up_1'
    sending.resume()
    await vi.advanceTimersByTimeAsync(0)
    expect([status, sending.refusal.value?.status]).toEqual([status, status])
    const wait = pause(status)
    await vi.advanceTimersByTimeAsync(wait ? wait - 1 : 60_000)
    expect([status, create.mock.calls.length]).toEqual([status, 1])
    await vi.advanceTimersByTimeAsync(1)
    expect([status, create.mock.calls.length]).toEqual([status, wait ? 2 : 1])
    sending.stop()
  }
})

test('a repeated request has the key of the first until it is answered', async () => {
  const keys: string[] = []
  const send = (fails: boolean) => async (header: { 'Idempotency-Key': string }) => {
    keys.push(header['Idempotency-Key'])
    if (fails) throw new Error('no answer')
  }
  await expect(once(['a'], send(true))).rejects.toThrow()
  await once(['b'], send(false))
  await once(['a'], send(false))
  await once(['a'], send(false))
  expect(keys[2]).toBe(keys[0])
  expect(new Set(keys).size).toBe(3)
})
