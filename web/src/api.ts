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
}

type Answer<T> = { data?: T; error?: unknown; response: Response }

/** Return what a request was answered with, or throw a Refusal. */
export async function answered<T>(request: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await request.catch((): never => {
    throw new Refusal({ code: 'unreachable', detail: '', hint: null }, 0)
  })
  if (response.ok) return data as T
  if (response.status === 401) signedOut.value = true
  const found = error as Partial<Problem> | undefined
  const detail = found?.detail ?? response.statusText
  throw new Refusal({ code: 'unknown', hint: null, ...found, detail }, response.status)
}
