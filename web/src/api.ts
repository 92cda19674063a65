/** The service's API, typed by its own OpenAPI document (`npm run types`). */
import createClient from 'openapi-fetch'
import type { components, paths } from './schema'
import { signedOut } from './session'

export type Shapes = components['schemas']
export type Problem = Pick<Shapes['Problem'], 'code' | 'detail' | 'hint'> & { param?: string | null }

export const api = createClient<paths>({ baseUrl: '/' })

/** A refusal, with the words that the service found for it. */
export class Refusal extends Error {
  constructor(readonly problem: Problem, readonly status: number) {
    super(problem.detail)
  }

  /** Whatever was thrown, as something that can be shown. */
  static of(error: unknown): Refusal {
    return error instanceof Refusal ? error : new Refusal({ code: 'page', detail: String(error), hint: null }, 0)
  }
}

/** Read what the service refused with; a key that is missing leads to the sign-in. */
export function refusalOf(status: number, body: unknown, words = ''): Refusal {
  if (status === 401) signedOut.value = true
  const found = body as Partial<Problem> | undefined
  return new Refusal({ code: 'unknown', hint: null, ...found, detail: found?.detail ?? (words || `HTTP ${status}`) }, status)
}

const unreachable = (): never => {
  throw new Refusal({ code: 'unreachable', detail: '', hint: null }, 0)
}

type Answer<T> = { data?: T; error?: unknown; response: Response }

/** Return what a request was answered with, or throw a Refusal. */
export async function answered<T>(request: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await request.catch(unreachable)
  if (response.ok) return data as T
  throw refusalOf(response.status, error, response.statusText)
}

/** Return a body that is text, of an address that the typed client does not read. */
export async function textOf(path: string): Promise<string> {
  const response = await fetch(path).catch(unreachable)
  if (response.ok) return response.text().catch(unreachable)
  throw refusalOf(response.status, await response.json().catch(() => undefined), response.statusText)
}

/** The address of a small picture of an image, its longer side `size` pixels. */
export const thumbnail = (dataset: string, number: number, sha256: string, size = 256): string =>
  `/datasets/${dataset}/versions/${number}/images/${sha256}/thumbnail?size=${size}`
