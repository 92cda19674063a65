/** The service itself: queue, workers, usage, keys. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { answered, api } from '../api'
import { href } from '../address'
import { bytes, count, moment, percent, words } from '../language'
import { useLoaded, usePages } from '../load'
import { Fact, More, Problem, Scroll, State, Trouble } from '../parts/pieces'
import { signOut, stateOf } from '../session'

export function Service(): JSX.Element {
  const session = useLoaded(() => answered(api.GET('/session')), 'session')
  const queue = useLoaded(() => answered(api.GET('/queue')), 'queue', () => 3000)
  const workers = useLoaded(() => answered(api.GET('/workers')), 'workers', () => 3000)
  const usage = useLoaded(() => answered(api.GET('/usage')), 'usage')
  const w = words.value
  const who = session.data.value
  const used = usage.data.value
  const stays = useSignal(false) // Signing out was not answered.
  const leave = async (): Promise<void> => void (stays.value = !(await signOut()))
  return (
    <>
      <div class="title"><h1>{w.admin}</h1>{who?.key && <button type="button" onClick={() => void leave()}>{w.signOut}</button>}</div>
      {stays.value && <Problem message={w.unreachable} />}
      <Trouble refusal={session.refusal.value} />
      <section>
        <h2>{w.queue}</h2>
        <Trouble refusal={queue.refusal.value} />
        <dl class="facts">{Object.entries(queue.data.value?.states ?? {}).map(([state, jobs]) => <Fact key={state} name={w.states[state] ?? state}>{count(jobs)}</Fact>)}</dl>
      </section>
      <section>
        <h2>{w.workers}</h2>
        <Trouble refusal={workers.refusal.value} />
        {workers.data.value?.data.length === 0 && <p class="note warning">{w.noWorkers}</p>}
        {Boolean(workers.data.value?.data.length) && (
          <Scroll label={w.workers}>
            <table>
              <thead><tr><th>{w.name}</th><th>{w.state}</th><th>{w.jobs}</th></tr></thead>
              <tbody>
                {workers.data.value?.data.map((worker) => (
                  <tr key={worker.id}>
                    <th scope="row">{worker.id}</th>
                    <td>{worker.jobs.length ? w.busy : worker.alive ? w.idle : w.away}</td>
                    <td>{worker.jobs.map((job) => <a key={job.id} href={href(['jobs', job.id])}>{w.kinds[job.kind] ?? job.kind} {percent(job.progress, 0)}</a>)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scroll>
        )}
      </section>
      <Trouble refusal={usage.refusal.value} />
      {used && (
        <section>
          <h2>{w.usage}</h2>
          <dl class="facts">
            <Fact name={`${w.stored} (${used.max_bytes === null ? w.unlimited : bytes(used.max_bytes)})`}>{bytes(used.stored_bytes)}</Fact>
            {Object.entries(used.bytes_by_kind).map(([kind, size]) => <Fact key={kind} name={kind}>{bytes(size)}</Fact>)}
          </dl>
        </section>
      )}
      {who?.scopes.includes('admin') && <Keys />}
    </>
  )
}

function Keys(): JSX.Element {
  const keys = usePages((after) => answered(api.GET('/keys', { params: { query: { limit: 100, ...(after ? { after } : {}) } } })), 'keys')
  const w = words.value
  const found = keys.data.value?.rows ?? []
  return (
    <section>
      <h2>{w.keys}</h2>
      <Trouble refusal={keys.refusal.value} />
      {keys.data.value && found.length === 0 && <p class="quiet">{w.noKeys}</p>}
      {found.length > 0 && (
        <Scroll label={w.keys}>
          <table>
            <thead><tr><th>{w.name}</th><th>{w.owner}</th><th>{w.scopes}</th><th>{w.created}</th><th>{w.state}</th></tr></thead>
            <tbody>{found.map((key) => <tr key={key.id}><th scope="row">{key.name ?? key.id}</th><td>{key.owner}</td><td>{key.scopes.join(', ')}</td><td class="quiet">{moment(key.created_at)}</td><td><State is={stateOf(key, Date.now())} /></td></tr>)}</tbody>
          </table>
        </Scroll>
      )}
      <More list={keys} />
    </section>
  )
}
