/** The form of a training: what it proposes, the request, and the commands that send the same. */
import type { Shapes } from './api'

export type Effort = 'fast' | 'balanced' | 'best'
export type Fit = 'auto' | 'crop' | 'pad' | 'squash'
export type Form = { dataset: string; architecture: string; effort: Effort; name: string; fit: Fit; epochs: string; batch: string; rate: string; seed: string }

const STRATEGIES = { fast: 'head', balanced: 'auto', best: 'gradual' } as const

type Network = Pick<Shapes['Architecture'], 'name' | 'parameters'> & { weights: Pick<Shapes['Weights'], 'top1' | 'available_offline' | 'obtainable'> | null }

const DOWNLOADED = 'mobilenet_v2'

/**
 * The network to begin with: the most accurate one whose weights are here, else a small and well-known
 * one where they may be downloaded, else the smallest of those that need none.
 */
export function proposed(networks: readonly Network[]): string {
  const best = (found: readonly Network[], rank: (one: Network) => number): string | undefined =>
    found.reduce<Network | undefined>((top, one) => (top && rank(top) >= rank(one) ? top : one), undefined)?.name
  const here = best(networks.filter(({ weights }) => weights?.available_offline), ({ weights }) => weights?.top1 ?? 0)
  const fetched = networks.find(({ name, weights }) => name === DOWNLOADED && weights?.obtainable)?.name
  return here ?? fetched ?? best(networks.filter(({ weights }) => !weights), ({ parameters }) => -parameters) ?? DOWNLOADED
}

/** Where the weights of a network are, as a word of the catalogue. */
export const whereabouts = (weights: NonNullable<Network['weights']>): 'weightsHere' | 'weightsAway' | 'weightsMissing' =>
  weights.available_offline ? 'weightsHere' : weights.obtainable ? 'weightsAway' : 'weightsMissing'

/** The body of `POST /finetune`; what is left empty is left out, so that the service chooses it. */
export function request(form: Form): Record<string, unknown> {
  const number = (text: string): number | undefined => (text.trim() === '' ? undefined : Number(text))
  const numbers = { epochs: number(form.epochs), batch_size: number(form.batch), learning_rate: number(form.rate) }
  const given = Object.entries(numbers).filter(([, value]) => value !== undefined)
  return {
    dataset: form.dataset,
    architecture: form.architecture,
    ...(form.effort === 'balanced' ? {} : { strategy: STRATEGIES[form.effort] }),
    ...(form.fit === 'auto' ? {} : { fit: form.fit }),
    ...(form.name ? { name: form.name } : {}),
    ...(given.length ? { hyperparameters: Object.fromEntries(given) } : {}),
    ...(number(form.seed) === undefined ? {} : { seed: number(form.seed) }),
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

export function asCurl(body: Record<string, unknown>, origin: string): string {
  return `curl ${origin}/finetune \\\n     -H 'Content-Type: application/json' \\\n     -d ${quoted(JSON.stringify(body))}`
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`
  if (typeof value !== 'object') return JSON.stringify(value)
  return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(', ')}}`
}

export function asPython(body: Record<string, unknown>): string {
  const fields = Object.entries(body).map(([name, value]) => `${name}=${literal(value)}`)
  return `from topwork import Topwork\n\nwith Topwork() as topwork:\n    job = topwork.finetune(${fields.join(', ')}).wait()`
}

export function asCommand(body: Record<string, unknown>): string {
  const { dataset, hyperparameters, ...rest } = body
  const flags = Object.entries({ ...rest, ...(hyperparameters as object) })
  return ['topwork train', quoted(String(dataset)), ...flags.map(([name, value]) => `--${name.replaceAll('_', '-')} ${quoted(String(value))}`)].join(' ')
}
