import { type ComponentChildren, isValidElement } from 'preact'
import { expect, test, vi } from 'vitest'
import { Refusal } from '../src/api'
import { english } from '../src/catalogue.en'
import { Course } from '../src/parts/exports'
import { Trouble } from '../src/parts/pieces'

vi.hoisted(() => {
  vi.stubGlobal('localStorage', { getItem: () => 'en' })
  vi.stubGlobal('document', { documentElement: {} })
})

/** The text of what is made of parts without hooks. */
function said(node: ComponentChildren): string {
  if (Array.isArray(node)) return node.map(said).join('|')
  if (!isValidElement(node)) return typeof node === 'string' ? node : ''
  const { type, props } = node as { type: unknown; props: { children?: ComponentChildren } }
  return said(typeof type === 'function' ? type(props) : props.children)
}

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
