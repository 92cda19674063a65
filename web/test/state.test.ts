import { afterEach, expect, test, vi } from 'vitest'
import { change, settled } from '../src/edits'
import { dense, paired, type Told } from '../src/evaluation'
import { asCommand, asCurl, asPython, request } from '../src/training'
import { look } from '../src/upload/choice'

const file = new Blob(['1234'])
const told = (sha256: string, right: boolean): Told => ({ sha256, path: sha256, split: 'val', class: 'cat', label: right ? 'cat' : 'dog', confidence: 0.9 })

afterEach(() => vi.unstubAllGlobals())

test('the newest step for an image counts', () => {
  const steps = [{ sha256: 'a', label: 'dog' }, { sha256: 'b', label: null }, { sha256: 'a', label: null }, { sha256: 'b', label: 'cat' }]
  expect(change(steps)).toEqual({ exclude: ['a'], relabel: { b: 'cat' } })
  expect(settled(steps.slice(0, 1)).get('a')).toBe('dog')
})

test('a folder is looked at before it is sent', () => {
  const paths = ['pets/cat/1.JPG', 'pets/cat/2.png', 'pets/dog/1.webp', 'pets/notes.txt', 'pets/.DS_Store', 'pets/__MACOSX/cat/1.jpg']
  const choice = look(paths.map((path) => ({ path, file })))
  expect([choice.name, choice.images.length, choice.skipped, choice.bytes]).toEqual(['pets', 3, 1, 12])
  expect([...choice.classes]).toEqual([['cat', 2], ['dog', 1]])
})

test('one archive is sent as it is', () => {
  for (const path of ['pets.zip', 'pets.tar.gz', 'pets.TGZ']) expect(look([{ path, file }])).toMatchObject({ name: 'pets', archive: file })
})

test('what is left empty is left to the service', () => {
  const form = { dataset: 'ds_1@1', architecture: 'resnet18', effort: 'balanced', name: '', epochs: '', batch: '', rate: '', seed: '' } as const
  expect(request(form)).toEqual({ dataset: 'ds_1@1', architecture: 'resnet18' })
  expect(request({ ...form, effort: 'fast', epochs: '3', seed: '0' })).toEqual({
    dataset: 'ds_1@1', architecture: 'resnet18', strategy: 'head', hyperparameters: { epochs: 3 }, seed: 0,
  })
  expect(asCurl({ name: "it's" }, 'http://x')).toContain(`'{"name":"it'\\''s"}'`)
  expect(asCommand({ dataset: 'ds_1@1', hyperparameters: { batch_size: 8 } })).toBe("topwork train 'ds_1@1' --batch-size '8'")
})

test('a sparse matrix is shown as a dense one is', () => {
  const matrix = [[3, 1], [0, 4]]
  expect(dense({ classes: ['a', 'b'], cells: [[0, 0, 3], [0, 1, 1], [1, 1, 4]] })).toEqual(matrix)
  expect(dense({ classes: ['a', 'b'], matrix })).toBe(matrix)
})

test('a difference is claimed on the same images alone, and both ways alike', () => {
  const a = [told('1', true), told('2', true), told('3', false), told('4', false)]
  const b = [told('4', false), told('3', true), told('2', true), told('1', true)]
  const there = paired(a, b)
  const back = paired(b, a)
  expect(there).toMatchObject({ both: 2, first: 0, second: 1, neither: 1, difference: 0.25 })
  expect(there?.low).toBeCloseTo(-(back?.high ?? 0))
  expect(paired(a, b.slice(1))).toBeNull()
  expect(paired(a, [...b.slice(1), told('9', true)])).toBeNull()
})

test('names stay as they are in copied Python', () => {
  expect(asPython({ name: 'null-model', dataset: 'true false', metadata: { null: null, on: true, list: [false, 1] } })).toContain(
    'finetune(name="null-model", dataset="true false", metadata={"null": None, "on": True, "list": [False, 1]})')
})

test('no duration has sixty minutes', async () => {
  vi.stubGlobal('localStorage', { getItem: () => 'en' })
  vi.stubGlobal('document', { documentElement: {} })
  const { duration } = await import('../src/language')
  expect([89, 90, 5399, 5400, 7199, 7200, 10_770, 10_830].map(duration)).toEqual(['89 sec', '2 min', '1 hr 30 min', '1 hr 30 min', '2 hr', '2 hr', '3 hr', '3 hr 1 min'])
})
