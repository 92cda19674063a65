/** One upload in pieces that can be paused and, after a reload, gone on with (tus 1.0). */
import { effect, signal } from '@preact/signals'
import { DetailedError, type HttpRequest, type HttpResponse, Upload } from 'tus-js-client'
import { answered, api, Refusal, refusalOf } from '../api'
import { pause } from '../load'
import { once } from '../once'
import { signedOut } from '../session'
import { type Choice, fingerprint, packed } from './choice'

const PIECE = 16 * 1024 * 1024
/** Statuses that another attempt may change: a lock, a moved offset, a limit on requests. */
const PASSING = [408, 409, 423, 429, 500, 502, 503, 504]
const GONE = [404, 410]

/**
 * Throw what the service refuses. tus-js-client begins anew whenever it asks how far an upload has come
 * and is refused; only where the upload is gone that is right.
 */
export function refuse(request: Pick<HttpRequest, 'getMethod'>, response: Pick<HttpResponse, 'getStatus' | 'getBody'>): void {
  const status = response.getStatus()
  if (status < 400 || (request.getMethod() === 'HEAD' && GONE.includes(status))) return
  throw refusalOf(status, parsed(response.getBody()))
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

const cause = (error: Error): Refusal | undefined => {
  const found = error instanceof DetailedError ? error.causingError : error
  return found instanceof Refusal ? found : undefined
}

/** Whether to try again without asking: where no answer came, or one that passes. */
export function isPassing(error: Error): boolean {
  const refusal = cause(error)
  return refusal === undefined || PASSING.includes(refusal.status)
}

export class Sending {
  readonly sent = signal(0)
  readonly speed = signal(0)
  readonly paused = signal(false)
  readonly refusal = signal<Refusal | undefined>(undefined)
  /** The id of the upload once all of it has arrived. */
  readonly arrived = signal<string | null>(null)
  readonly size: number
  private readonly upload: Upload
  private readonly forget: () => void
  private started = { at: 0, sent: 0 }
  private timer = 0
  private over = false

  /** `name` is read when the data set is created, `done` is told the id of the data set. */
  constructor(readonly choice: Choice, readonly name: { value: string }, private readonly done: (dataset: string) => void) {
    const body = packed(choice)
    const print = fingerprint(choice)
    this.size = body.size
    this.upload = new Upload(body, {
      endpoint: '/uploads',
      chunkSize: PIECE,
      metadata: { filename: choice.filename },
      retryDelays: [0, 1000, 2000, 4000, 8000, 15000, 30000],
      fingerprint: async () => print,
      removeFingerprintOnSuccess: true,
      onAfterResponse: refuse,
      onShouldRetry: isPassing,
      onProgress: (sent) => this.note(sent),
      onError: (error) => this.stopped(cause(error) ?? new Refusal({ code: 'unreachable', detail: error.message, hint: null }, 0)),
      onSuccess: () => {
        this.arrived.value = (this.upload.url ?? '').split('/').at(-1) ?? ''
        void this.create()
      },
    })
    // Whoever signs in again goes on where the service began to refuse.
    this.forget = effect(() => {
      if (!signedOut.value && this.refusal.peek()?.status === 401) this.resume()
    })
  }

  /** Begin, or go on where an upload of the same files has stopped. */
  async start(): Promise<void> {
    const before = await this.upload.findPreviousUploads()
    if (before[0]) this.upload.resumeFromPreviousUpload(before[0])
    this.resume()
  }

  pause(): void {
    clearTimeout(this.timer)
    this.paused.value = true
    void this.upload.abort()
  }

  /** Go on after a pause or a refusal; what has arrived is not sent again. */
  resume(): void {
    clearTimeout(this.timer)
    this.paused.value = false
    this.refusal.value = undefined
    this.started = { at: 0, sent: 0 }
    if (this.arrived.value) void this.create()
    else this.upload.start()
  }

  /** Stop, and ask the service to forget it; where that fails, it forgets it by itself when it expires. */
  stop(): void {
    clearTimeout(this.timer)
    this.over = true
    this.forget()
    this.upload.abort(true).catch(() => undefined)
  }

  private async create(): Promise<void> {
    try {
      const body = { upload: this.arrived.value, name: this.name.value || undefined }
      const job = await once(['dataset', body], (header) => answered(api.POST('/datasets', { params: { header }, body: body as never })))
      this.forget()
      this.done((job.dataset ?? '').split('@')[0] ?? '')
    } catch (error) {
      const refusal = Refusal.of(error)
      if (GONE.includes(refusal.status)) this.arrived.value = null
      this.stopped(refusal)
    }
  }

  private stopped(refusal: Refusal): void {
    if (this.over) return
    this.refusal.value = refusal
    const wait = pause(refusal.status)
    if (wait) this.timer = window.setTimeout(() => this.resume(), wait)
  }

  private note(sent: number): void {
    const now = performance.now()
    if (!this.started.at) this.started = { at: now, sent }
    const seconds = (now - this.started.at) / 1000
    if (seconds > 0.5) this.speed.value = (sent - this.started.sent) / seconds
    this.sent.value = sent
  }
}
