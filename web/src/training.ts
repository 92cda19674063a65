/** The form of a training, as the request and as the commands that send the same. */
export type Effort = 'fast' | 'balanced' | 'best'
export type Form = { dataset: string; architecture: string; effort: Effort; name: string; epochs: string; batch: string; rate: string; seed: string }

const STRATEGIES = { fast: 'head', balanced: 'auto', best: 'gradual' } as const

/** The body of `POST /finetune`; what is left empty is left out, so that the service chooses it. */
export function request(form: Form): Record<string, unknown> {
  const number = (text: string): number | undefined => (text.trim() === '' ? undefined : Number(text))
  const numbers = { epochs: number(form.epochs), batch_size: number(form.batch), learning_rate: number(form.rate) }
  const given = Object.entries(numbers).filter(([, value]) => value !== undefined)
  return {
    dataset: form.dataset,
    architecture: form.architecture,
    ...(form.effort === 'balanced' ? {} : { strategy: STRATEGIES[form.effort] }),
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
