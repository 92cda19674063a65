/** One upload in pieces that can be paused and, after a reload, gone on with (tus 1.0). */
import { signal } from '@preact/signals'
import { Upload } from 'tus-js-client'

const PIECE = 16 * 1024 * 1024

export class Sending {
  readonly sent = signal(0)
  readonly speed = signal(0)
  readonly paused = signal(false)
  readonly failure = signal<string | null>(null)
  private readonly upload: Upload
  private started = { at: 0, sent: 0 }

  /** `done` is told the id of the upload. */
  constructor(readonly body: Blob, name: string, done: (id: string) => void) {
    const fingerprint = `topwork-${name}-${body.size}`
    this.upload = new Upload(body, {
      endpoint: '/uploads',
      chunkSize: PIECE,
      metadata: { filename: `${name || 'images'}.tar`.replace(/^(.*\.(zip|tar\.\w+|t\w+))\.tar$/i, '$1') },
      retryDelays: [0, 1000, 2000, 4000, 8000, 15000, 30000],
      fingerprint: async () => fingerprint,
      removeFingerprintOnSuccess: true,
      onProgress: (sent) => this.note(sent),
      onError: (error) => void (this.failure.value = error.message),
      onSuccess: () => done((this.upload.url ?? '').split('/').at(-1) ?? ''),
    })
  }

  /** Begin, or go on where an upload of the same files has stopped. */
  async start(): Promise<void> {
    const before = await this.upload.findPreviousUploads()
    if (before[0]) this.upload.resumeFromPreviousUpload(before[0])
    this.resume()
  }

  pause(): void {
    this.paused.value = true
    void this.upload.abort()
  }

  resume(): void {
    this.paused.value = false
    this.failure.value = null
    this.started = { at: 0, sent: 0 }
    this.upload.start()
  }

  /** Forget it, here and in the service. */
  async stop(): Promise<void> {
    await this.upload.abort(true)
  }

  private note(sent: number): void {
    const now = performance.now()
    if (!this.started.at) this.started = { at: now, sent }
    const seconds = (now - this.started.at) / 1000
    if (seconds > 0.5) this.speed.value = (sent - this.started.sent) / seconds
    this.sent.value = sent
  }
}
