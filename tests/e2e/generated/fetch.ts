/** Upload, fine-tune and predict with openapi-fetch and the types of openapi-typescript: URL ARCHIVE IMAGE. */
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import createClient from 'openapi-fetch'
import type { components, paths } from './schema.js'

type Job = components['schemas']['Job']
const [url = '', archive = '', image = ''] = process.argv.slice(2)
const client = createClient<paths>({ baseUrl: url })
const tus = { 'Tus-Resumable': '1.0.0' } as const

async function good<T>(asked: Promise<{ data?: T; error?: unknown }>): Promise<T> {
  const { data, error } = await asked
  if (error) throw new Error(JSON.stringify(error))
  return data as T
}

async function ended(started: Job): Promise<Job> {
  let job = started
  while (!['succeeded', 'failed', 'cancelled'].includes(job.state)) {
    await setTimeout(200)
    job = await good(client.GET('/jobs/{job_id}', { params: { path: { job_id: job.id } } }))
  }
  if (job.state !== 'succeeded') throw new Error(JSON.stringify(job))
  return job
}

const bytes = readFileSync(archive)
const header = { ...tus, 'Upload-Length': bytes.length, 'Upload-Metadata': `filename ${btoa('pets.zip')}` }
const upload = await good(client.POST('/uploads', { params: { header } }))
const piece = { params: { path: { upload_id: upload.id }, header: { ...tus, 'Upload-Offset': 0 } } }
const headers = { 'Content-Type': 'application/offset+octet-stream' }
await good(client.PATCH('/uploads/{upload_id}', { ...piece, headers, body: '', bodySerializer: () => bytes }))
const read = await ended(await good(client.POST('/datasets', { body: { upload: upload.id } })))
const order = { architecture: 'lenet', dataset: read.dataset, name: 'generated-fetch', hyperparameters: { epochs: 1 } }
const started = await good(client.POST('/finetune', { body: order }))
if (!('state' in started)) throw new Error('this is a plan')
const trained = await ended(started)
const images = [{ data: readFileSync(image).toString('base64'), filename: 'one.png' }]
const answer = await good(client.POST('/predict', { body: { images, model: trained.model } }))
console.log(answer.results[0]?.label)
