/** Upload, fine-tune and predict with the client of @hey-api/openapi-ts: URL ARCHIVE IMAGE. */
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { client } from './hey/client.gen.js'
import { appendToUpload, createDataset, createUpload, finetune, getJob, predict } from './hey/sdk.gen.js'
import type { Job } from './hey/types.gen.js'

const [url = '', archive = '', image = ''] = process.argv.slice(2)
client.setConfig({ baseUrl: url })
const tus = { 'Tus-Resumable': '1.0.0' } as const

async function ended(started: Job): Promise<Job> {
  let job = started
  while (!['succeeded', 'failed', 'cancelled'].includes(job.state)) {
    await setTimeout(200)
    job = (await getJob({ path: { job_id: job.id }, throwOnError: true })).data
  }
  if (job.state !== 'succeeded') throw new Error(JSON.stringify(job))
  return job
}

const bytes = readFileSync(archive)
const headers = { ...tus, 'Upload-Length': bytes.length, 'Upload-Metadata': `filename ${btoa('pets.zip')}` }
const upload = (await createUpload({ headers, throwOnError: true })).data
await appendToUpload({ path: { upload_id: upload.id }, headers: { ...tus, 'Upload-Offset': 0 }, body: new Blob([bytes]), throwOnError: true })
const read = await ended((await createDataset({ body: { upload: upload.id }, throwOnError: true })).data)
const order = { architecture: 'lenet', dataset: read.dataset, name: 'generated-hey', hyperparameters: { epochs: 1 } }
const started = (await finetune({ body: order, throwOnError: true })).data
if (!('state' in started)) throw new Error('this is a plan')
const trained = await ended(started)
const images = [{ data: readFileSync(image).toString('base64'), filename: 'one.png' }]
const answer = await predict({ body: { images, model: trained.model }, throwOnError: true })
console.log(answer.data.results[0]?.label)
