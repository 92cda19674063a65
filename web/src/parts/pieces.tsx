/** Small pieces that several screens are made of. */
import type { ComponentChildren, JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Refusal } from '../api'
import { words } from '../language'

const TONES: Record<string, string> = {
  succeeded: 'good', ready: 'good', failed: 'bad', expired: 'bad', revoked: 'bad', running: 'busy', ingesting: 'busy', pausing: 'busy', cancelling: 'busy',
}

export function State({ is }: { is: string }): JSX.Element {
  return <span class={`state ${TONES[is] ?? ''}`}>{words.value.states[is] ?? is}</span>
}

/** What went wrong, and what to do about it. */
export function Problem({ message, hint }: { message: string; hint?: string | null | undefined }): JSX.Element {
  return (
    <div class="note error" role="alert">
      <strong>{message}</strong>
      {hint && <p>{hint}</p>}
    </div>
  )
}

/** A refusal; `manual` where nothing asks again by itself. */
export function Trouble({ refusal, manual = false }: { refusal: Refusal | undefined; manual?: boolean }): JSX.Element | null {
  if (!refusal) return null
  const { code, detail, hint } = refusal.problem
  if (code !== 'unreachable') return <Problem message={detail} hint={hint} />
  return <Problem message={words.value.unreachable} hint={manual ? null : words.value.reconnecting} />
}

export function Empty({ title, hint, children }: { title: string; hint: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="card">
      <h2>{title}</h2>
      <p class="quiet">{hint}</p>
      {children && <div class="row">{children}</div>}
    </div>
  )
}

/** A way to the rest of a list, where there is one. */
export function More({ list }: { list: { data: { value: { more: boolean } | undefined }; next: () => void } }): JSX.Element | null {
  if (!list.data.value?.more) return null
  return <div><button type="button" onClick={list.next}>{words.value.showMore}</button></div>
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}

export function Scroll({ label, children }: { label: string; children: ComponentChildren }): JSX.Element {
  return (
    <div class="wide" role="region" aria-label={label} tabIndex={0}>
      {children}
    </div>
  )
}

/** A command that does what the form does, to be copied. */
export function Command({ name, text }: { name: string; text: string }): JSX.Element {
  const [copied, setCopied] = useState(false)
  const copy = (): void => void navigator.clipboard.writeText(text).then(() => setCopied(true))
  return (
    <section>
      <div class="row">
        <strong>{name}</strong>
        <button type="button" class="plain small" onClick={copy}>{copied ? words.value.copied : words.value.copy}</button>
      </div>
      <pre>{text}</pre>
    </section>
  )
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : value === null || value === undefined ? '–' : JSON.stringify(value)
}
