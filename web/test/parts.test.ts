import { type ComponentChildren, isValidElement } from 'preact'
import { expect, test, vi } from 'vitest'
import { api, Refusal } from '../src/api'
import { english } from '../src/catalogue.en'
import { isTold, judged } from '../src/evaluation'
import { percent } from '../src/language'
import { Largest, Table } from '../src/parts/confusion'
import { Course } from '../src/parts/exports'
import { Trouble } from '../src/parts/pieces'
import { Reliance } from '../src/parts/reliance'
import { pairOf } from '../src/screens/compare'
import { Verdict } from '../src/screens/model'

vi.hoisted(() => {
  vi.stubGlobal('localStorage', { getItem: () => 'en' })
  vi.stubGlobal('document', { documentElement: {} })
})

type Element = { type: unknown; props: { children?: ComponentChildren; onClick?: () => void } }

/** What parts without hooks draw, in order: elements of the page and texts. */
function drawn(node: ComponentChildren): (Element | string)[] {
  if (Array.isArray(node)) return node.flatMap(drawn)
  if (!isValidElement(node)) return typeof node === 'string' ? [node] : []
  const { type, props } = node as Element
  return typeof type === 'function' ? drawn(type(props)) : [node as Element, ...drawn(props.children)]
}

const said = (node: ComponentChildren): string => drawn(node).filter((one) => typeof one === 'string').join('|')
const buttons = (node: ComponentChildren) => drawn(node).flatMap((one) => (typeof one !== 'string' && one.props.onClick ? [one.props.onClick] : []))

const course = (state: Parameters<typeof Course>[0]['state'], error?: { message: string; hint?: string }): string =>
  said(Course({ id: 'job_1', format: 'onnx', state, error: error && { code: 'x', options: [], ...error }, children: 'order it' }))

test('an export is said to be written until its job has ended', () => {
  for (const state of ['waiting', 'queued', 'running', 'pausing', 'paused', 'cancelling'] as const) {
    expect(course(state)).toContain(english.exporting('ONNX'))
    expect(course(state)).toContain(english.states[state])
    expect(course(state)).not.toContain('order it')
  }
  expect(course('succeeded')).not.toMatch(/being written|order it/)
})

test('an export that came to nothing says why, and can be ordered again', () => {
  for (const state of ['failed', 'cancelled'] as const) {
    expect(course(state)).not.toContain('being written')
    expect(course(state)).toContain(english.states[state])
    expect(course(state)).toContain('order it')
  }
  expect(course('failed', { message: 'It answers otherwise.', hint: 'Export it as torch.' })).toMatch(/It answers otherwise\.\|Export it as torch\..*order it/)
})

test('a service that does not answer is said to be asked again only where it is', () => {
  const away = new Refusal({ code: 'unreachable', detail: '', hint: null }, 0)
  expect(said(Trouble({ refusal: away }))).toBe(`${english.unreachable}|${english.reconnecting}`)
  expect(said(Trouble({ refusal: away, manual: true }))).not.toContain(english.reconnecting)
  expect(said(Trouble({ refusal: new Refusal({ code: 'disk_full', detail: 'The disk is full.', hint: 'Make room.' }, 507) }))).toBe('The disk is full.|Make room.')
})

test('a cell is a button only where there are images to open', () => {
  const confusion = { classes: ['cat', 'dog'], matrix: [[7, 3], [0, 5]] }
  for (const Part of [Table, Largest]) {
    const shown = vi.fn()
    expect(buttons(Part({ confusion, show: undefined }))).toEqual([])
    expect(said(Part({ confusion, show: undefined }))).toBe(said(Part({ confusion, show: shown })))
    for (const press of buttons(Part({ confusion, show: shown }))) press()
    expect(shown.mock.calls).toContainEqual(['cat', 'dog'])
  }
  expect(['val', 'test', 'folds'].map(isTold)).toEqual([true, true, false])
})

test('a split is shown that was measured', () => {
  const splits = { folds: {}, val: {}, test: {} }
  expect([judged(splits), judged(splits, 'folds'), judged(splits, 'train'), judged({ folds: {}, val: {} }), judged({ folds: {} })]).toEqual(['test', 'folds', 'test', 'val', 'folds'])
  expect([judged({}), judged({}, 'val'), judged({}, 'constructor')]).toEqual(['', '', ''])
})

test('a verdict says whose answers it is about', () => {
  const verdict = (split: string, out_of_fold: boolean): string =>
    said(Verdict({ split, scores: { images: 40, accuracy: 0.75, out_of_fold } as Parameters<typeof Verdict>[0]['scores'] }))
  expect([verdict('test', false), verdict('val', false)]).toEqual([english.verdict, english.verdictChosen].map((one) => one(percent(0.75), 40)))
  expect(['folds', 'val'].map((split) => verdict(split, true))).toEqual(Array(2).fill(english.verdictFolds(percent(0.75), 40)))
})

test('what a model relies on is told with what that share is right in', () => {
  const told = { coverage: 0.9, coverage_interval: { low: 0.8, high: 0.95 }, accuracy: 0.96, accuracy_interval: { low: 0.9, high: 0.99 }, unknown: 3, unsure: 1, by_confidence: [{ coverage: 1, confidence: 0.4, accuracy: 0.92 }] }
  const text = said(Reliance({ abstention: told }))
  for (const part of [english.reliesOn(percent(0.9)), english.rightOfThese(percent(0.96)), english.keptBack(3, 1), `${percent(1, 0)}|${percent(0.4)}|${percent(0.92)}`]) expect(text).toContain(part)
  const none = said(Reliance({ abstention: { ...told, coverage: 0, accuracy: null, accuracy_interval: null } }))
  expect(none).toContain(english.reliesOn(percent(0)))
  expect(none).not.toMatch(/right|between|null|NaN/)
  const all = said(Reliance({ abstention: { ...told, reason: 'too few' } }))
  expect(all).toContain('too few')
  expect(all).not.toContain(english.reliesOn(percent(0.9)))
})

test('a version alone is compared with the newest of those before it', async () => {
  const asked = vi.spyOn(api, 'GET').mockImplementation(async () =>
    ({ data: { data: [12, 9, 7, 2].map((number) => ({ number })) }, response: new Response() }) as never)
  expect(await pairOf('pets@12')).toEqual(['pets@9', 'pets@12'])
  expect(await pairOf('pets@9')).toEqual(['pets@7', 'pets@9'])
  expect(await pairOf('pets@2')).toEqual(['pets@2'])
  asked.mockClear()
  expect([await pairOf('pets@2,pets@9'), await pairOf('pets@9,'), await pairOf('')]).toEqual([['pets@2', 'pets@9'], ['pets@9', ''], ['']])
  expect(asked).not.toHaveBeenCalled()
})
