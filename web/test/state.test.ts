import { readdirSync, readFileSync } from 'node:fs'
import { afterEach, expect, test, vi } from 'vitest'
import { english } from '../src/catalogue.en'
import { change, settled } from '../src/edits'
import { dense, mistakes, predictions } from '../src/evaluation'
import { collected, pause } from '../src/load'
import { reachable } from '../src/parts/grid'
import { plural } from '../src/plural'
import { stateOf } from '../src/session'
import { asCommand, asCurl, asPython, proposed, request, whereabouts } from '../src/training'
import { look } from '../src/upload/choice'

const file = new Blob(['1234'])

afterEach(() => vi.unstubAllGlobals())

test('the newest step for an image counts', () => {
  const steps = [{ sha256: 'a', label: 'dog' }, { sha256: 'b', label: null }, { sha256: 'a', label: null }, { sha256: 'b', label: 'cat' }]
  expect(change(steps)).toEqual({ exclude: ['a'], relabel: { b: 'cat' }, confirm: [] })
  expect(settled(steps.slice(0, 1)).get('a')?.label).toBe('dog')
})

test('a label that is right is confirmed and given to no image anew, until another step', () => {
  const steps = [{ sha256: 'a', label: 'dog' }, { sha256: 'a', label: 'cat', right: true }, { sha256: 'b', label: 'cat', right: true }]
  expect(change(steps)).toEqual({ exclude: [], relabel: {}, confirm: ['a', 'b'] })
  expect(change([...steps, { sha256: 'b', label: null }])).toEqual({ exclude: ['b'], relabel: {}, confirm: ['a'] })
})

test('a folder is looked at before it is sent', () => {
  const paths = ['pets/cat/1.JPG', 'pets/cat/2.png', 'pets/dog/1.webp', 'pets/notes.md', 'pets/.DS_Store', 'pets/__MACOSX/cat/1.jpg']
  const choice = look(paths.map((path) => ({ path, file })))
  expect([choice.name, choice.images, choice.entries.length, choice.bytes]).toEqual(['pets', 3, 4, 16])
  expect([...choice.classes]).toEqual([['cat', 2], ['dog', 1]])
})

test('what is left empty is left to the service', () => {
  const form = { dataset: 'ds_1@1', architecture: 'resnet18', effort: 'balanced', fit: 'auto', name: '', epochs: '', batch: '', rate: '', seed: '' } as const
  expect(request(form)).toEqual({ dataset: 'ds_1@1', architecture: 'resnet18' })
  expect(request({ ...form, effort: 'fast', fit: 'pad', epochs: '3', seed: '0' })).toEqual({
    dataset: 'ds_1@1', architecture: 'resnet18', strategy: 'head', fit: 'pad', hyperparameters: { epochs: 3 }, seed: 0,
  })
  expect(asCurl({ name: "it's" }, 'http://x')).toContain(`'{"name":"it'\\''s"}'`)
  expect(asCommand({ dataset: 'ds_1@1', hyperparameters: { batch_size: 8 } })).toBe("topwork train 'ds_1@1' --batch-size '8'")
})

test('the network to begin with is one that can be trained here', () => {
  const weights = (top1: number, available_offline: boolean, obtainable: boolean) => ({ top1, available_offline, obtainable })
  const all = (here: string[], obtainable: boolean) => [
    { name: 'alexnet', parameters: 61, weights: weights(56, here.includes('alexnet'), obtainable || here.includes('alexnet')) },
    { name: 'lenet', parameters: 0.06, weights: null },
    { name: 'mobilenet_v2', parameters: 3.5, weights: weights(72, here.includes('mobilenet_v2'), obtainable || here.includes('mobilenet_v2')) },
    { name: 'nin', parameters: 7.6, weights: null },
  ]
  expect(proposed(all(['alexnet', 'mobilenet_v2'], false))).toBe('mobilenet_v2')
  expect(proposed(all(['alexnet'], true))).toBe('alexnet')
  expect(proposed(all([], true))).toBe('mobilenet_v2')
  expect(proposed(all([], false))).toBe('lenet')
  expect([weights(1, true, true), weights(1, false, true), weights(1, false, false)].map(whereabouts)).toEqual(['weightsHere', 'weightsAway', 'weightsMissing'])
})

test('a sparse matrix is shown as a dense one is', () => {
  const matrix = [[3, 1], [0, 4]]
  expect(dense({ classes: ['a', 'b'], cells: [[0, 0, 3], [0, 1, 1], [1, 1, 4]] })).toEqual(matrix)
  expect(dense({ classes: ['a', 'b'], matrix })).toBe(matrix)
})

test('the largest mistakes are the same, whichever way the matrix was sent', () => {
  const classes = ['a', 'b', 'c']
  const found = [{ truth: 'c', answer: 'a', images: 3, share: 0.75 }, { truth: 'a', answer: 'b', images: 2, share: 0.2 }]
  expect(mistakes({ classes, matrix: [[8, 2, 0], [0, 5, 0], [3, 0, 1]] })).toEqual(found)
  expect(mistakes({ classes, cells: [[0, 0, 8], [0, 1, 2], [1, 1, 5], [2, 0, 3], [2, 2, 1]] })).toEqual(found)
})

test('what was said of the images is asked for once, and again after a refusal', async () => {
  const told = { sha256: 'a', path: 'a.png', split: 'val', class: 'x', label: 'y', confidence: 1 }
  const asked = vi.fn(async () => new Response('{"code":"integrity","detail":"It is damaged."}', { status: 503 }))
  vi.stubGlobal('fetch', asked)
  await expect(predictions('pets', 1)).rejects.toMatchObject({ status: 503, problem: { code: 'integrity', detail: 'It is damaged.' } })
  asked.mockImplementation(async () => new Response(`${JSON.stringify(told)}\n`))
  expect(await Promise.all([predictions('pets', 1), predictions('pets', 1)])).toEqual([[told], [told]])
  expect(asked).toHaveBeenCalledTimes(2)
  await predictions('pets', 2)
  expect(asked).toHaveBeenCalledTimes(3)
})

test('a list is read as far as it is wanted', async () => {
  const ask = async (after = '0') => ({ data: [Number(after)], last_id: String(Number(after) + 1), has_more: after !== '3' })
  expect(await collected(ask, 1)).toEqual({ rows: [0], more: true })
  expect(await collected(ask, 2)).toEqual({ rows: [0, 1], more: true })
  expect(await collected(ask)).toEqual({ rows: [0, 1, 2, 3], more: false })
})

test('what passes is asked again, what does not is not', () => {
  for (const status of [0, 408, 429, 500, 503, 507]) expect(pause(status)).toBeGreaterThan(0)
  for (const status of [400, 401, 403, 404, 410]) expect(pause(status)).toBe(0)
})

test('one tile can always be reached by Tab', () => {
  expect([reachable(5, 0, 10), reachable(5, 20, 40), reachable(50, 20, 40), reachable(39, 20, 40), reachable(40, 20, 40)]).toEqual([5, 20, 20, 39, 20])
})

test('names stay as they are in copied Python', () => {
  expect(asPython({ name: 'null-model', dataset: 'true false', metadata: { null: null, on: true, list: [false, 1] } })).toContain(
    'finetune(name="null-model", dataset="true false", metadata={"null": None, "on": True, "list": [False, 1]})')
})

test('a key that has ended is not ready', () => {
  const now = Date.parse('2026-11-30T12:00:00Z')
  const key = { revoked_at: null, expires_at: null }
  expect(stateOf(key, now)).toBe('ready')
  expect(stateOf({ ...key, expires_at: '2026-11-30T12:00:01Z' }, now)).toBe('ready')
  expect(stateOf({ ...key, expires_at: '2026-11-30T12:00:00Z' }, now)).toBe('expired')
  expect(stateOf({ revoked_at: '2026-11-29T12:00:00Z', expires_at: '2026-11-30T12:00:00Z' }, now)).toBe('revoked')
})

test('a number has its noun', () => {
  expect([0, 1, 2, 1000].map((value) => plural('en')(value, 'job', 'jobs'))).toEqual(['0 jobs', '1 job', '2 jobs', '1,000 jobs'])
  expect([1, 1000].map((value) => plural('de')(value, 'Auftrag', 'Aufträge'))).toEqual(['1 Auftrag', '1.000 Aufträge'])
})

test('no duration has sixty minutes', async () => {
  vi.stubGlobal('localStorage', { getItem: () => 'en' })
  vi.stubGlobal('document', { documentElement: {} })
  const { duration } = await import('../src/language')
  expect([89, 90, 5399, 5400, 7199, 7200, 10_770, 10_830].map(duration)).toEqual(['89 sec', '2 min', '1 hr 30 min', '1 hr 30 min', '2 hr', '2 hr', '3 hr', '3 hr 1 min'])
})

test('bytes have a plural', async () => {
  vi.stubGlobal('localStorage', { getItem: () => 'en' })
  vi.stubGlobal('document', { documentElement: {} })
  const { bytes } = await import('../src/language')
  expect([0, 1, 562, 4000, 1_250_000].map(bytes)).toEqual(['0 bytes', '1 byte', '562 bytes', '4 kB', '1.3 MB'])
})

test('every word of the catalogue is used', () => {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.tsx?$/.test(path) && !/catalogue|schema/.test(path)).map((path) => readFileSync(`src/${path}`, 'utf8')).join('')
  // These are looked up by a name that is data.
  const looked = ['fast', 'balanced', 'best', 'weightsHere', 'weightsAway', 'weightsMissing']
  const used = (key: string): boolean => new RegExp(`(\\bw|words\\.value)\\.${key}\\b`).test(sources)
  expect(Object.keys(english).filter((key) => !looked.includes(key) && !used(key))).toEqual([])
})
