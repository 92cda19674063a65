/** One version of a model: the verdict, what it confuses, whether its confidence can be trusted. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { answered, api, Refusal, type Shapes } from '../api'
import { address, filter, href } from '../address'
import { isTold, judged, predictions } from '../evaluation'
import { bytes, count, decimal, percent, words } from '../language'
import { useLoaded } from '../load'
import { Confusion } from '../parts/confusion'
import { Exports } from '../parts/exports'
import { JudgedImage } from '../parts/judged_image'
import { Scroll, Trouble } from '../parts/pieces'
import { Reliance } from '../parts/reliance'
import { SUSPECTS } from './gallery'

const WORST = 12

type Shown = { model: Shapes['Model']; version: Shapes['ModelVersion']; splits: Awaited<ReturnType<typeof evaluationOf>> }

const evaluationOf = async (name: string, number: number) =>
  (await answered(api.GET('/models/{name}/versions/{number}/evaluation', { params: { path: { name, number } } }))).splits

type Measured = Awaited<ReturnType<typeof evaluationOf>>[string]

async function ask(name: string, wanted: string | undefined): Promise<Shown> {
  const model = await answered(api.GET('/models/{name}', { params: { path: { name } } }))
  const number = Number(wanted ?? model.latest ?? 1)
  const params = { path: { name, number } }
  const [version, splits] = await Promise.all([
    answered(api.GET('/models/{name}/versions/{number}', { params })),
    evaluationOf(name, number),
  ])
  return { model, version, splits }
}

/** The form of a training that makes the next version of the same model. */
const again = ({ model, architecture, dataset }: Shapes['ModelVersion']): string =>
  href(['train'], { dataset: `${dataset?.id}@${dataset?.version ?? 1}`, architecture: architecture ?? undefined, name: model })

export function Model({ name, number }: { name: string; number: string | undefined }): JSX.Element {
  const shown = useLoaded(() => ask(name, number), `${name}@${number}`)
  const w = words.value
  if (!shown.data.value) return <><Trouble refusal={shown.refusal.value} />{!shown.refusal.value && <p role="status">{w.loading}</p>}</>
  const { model, version, splits } = shown.data.value
  const split = judged(splits, address.value.query.get('split'))
  const scores = splits[split]
  const reference = `${version.model}@${version.number}`
  const told = async () => (await predictions(version.model, version.number)).filter((one) => one.split === split)
  const opens = isTold(split) && 'predictions.jsonl' in version.files
  return (
    <>
      <div class="title">
        <div><h1>{version.model} <span class="quiet">@{version.number}</span></h1><p class="quiet">{[version.architecture, w.classCount(version.classes.length)].filter(Boolean).join(' · ')}</p></div>
        <div class="row">
          <a class="button primary" href={href(['try', reference])}>{w.tryIt}</a>
          {version.dataset?.id && <a class="button" href={again(version)}>{w.trainAgain}</a>}
          <a class="button" href={href(['compare'], { m: reference })}>{w.compare}</a>
        </div>
      </div>
      {!scores && <p class="note">{w.unmeasured}</p>}
      {scores && <Verdict scores={scores} split={split} />}
      {Object.keys(splits).length > 1 && (
        <label>{w.measured}<select value={split} onChange={(event) => filter({ split: event.currentTarget.value })}>{Object.keys(splits).map((one) => <option key={one}>{one}</option>)}</select></label>
      )}
      {scores?.confusion && <Confusion confusion={scores.confusion} load={opens ? told : undefined} of={`${reference} ${split}`} version={version} />}
      <Suspects version={version} />
      {scores?.errors && <Worst errors={scores.errors} version={version} />}
      <div class="columns">
        {scores?.calibration && <Trust calibration={scores.calibration} />}
        {scores?.abstention && <Reliance abstention={scores.abstention} />}
      </div>
      {scores?.per_class && scores.per_class.length > 0 && <Scores rows={scores.per_class} />}
      <div class="columns">
        <Downloads version={version} />
        <Exports name={version.model} number={version.number} />
        <Aliases model={model} number={version.number} done={shown.reload} />
      </div>
    </>
  )
}

/** The way to the images whose labels the model doubts, where they can be corrected. */
function Suspects({ version }: { version: Shapes['ModelVersion'] }): JSX.Element | null {
  const w = words.value
  const { dataset, card } = version
  const found = (card['suspects'] ?? {}) as Record<string, number>
  const told: Record<string, (n: number) => string> = { label_suspect: w.mayBeWrong, outlier: w.likeNoOther }
  const kinds = SUSPECTS.filter((kind) => found[kind] && told[kind])
  if (!dataset?.id || !kinds.length) return null
  const place = ['datasets', `${dataset.id}@${dataset.version ?? 1}`]
  const model = `${version.model}@${version.number}`
  return (
    <p class="row">
      {kinds.map((finding) => <a key={finding} href={href(place, { finding, model })}>{told[finding]?.(found[finding] ?? 0)}</a>)}
    </p>
  )
}

export function Verdict({ scores, split }: { scores: Measured; split: string }): JSX.Element | null {
  const w = words.value
  const range = scores.intervals?.accuracy
  if (typeof scores.accuracy !== 'number') return null
  // The best epoch was chosen on the images of val, so only those of test are new to the model.
  const said = scores.out_of_fold ? w.verdictFolds : split === 'test' ? w.verdict : w.verdictChosen
  return (
    <div class="note good">
      <strong>{said(percent(scores.accuracy), scores.images ?? 0)}</strong>
      {range && <p>{w.interval(percent(range.low), percent(range.high))}</p>}
    </div>
  )
}

function Worst({ errors, version }: { errors: Shapes['WrongAnswer'][]; version: Shapes['ModelVersion'] }): JSX.Element {
  const w = words.value
  return (
    <section>
      <h2>{w.worst}</h2>
      <p class="quiet">{errors.length ? w.worstHint : w.noWorst}{Boolean(errors.length) && version.heatmap && ` ${w.explainHint}`}</p>
      <ul class="gallery">
        {errors.slice(0, WORST).map((wrong) => (
          <li key={wrong.path}>
            <figure>
              {wrong.sha256 && <JudgedImage version={version} sha256={wrong.sha256} path={wrong.path} />}
              <figcaption><strong>{wrong.true}</strong><br /><span class="quiet">{w.said(wrong.predicted)}{typeof wrong.confidence === 'number' && ` · ${percent(wrong.confidence, 0)}`}</span></figcaption>
            </figure>
          </li>
        ))}
      </ul>
      {errors.length > WORST && <p class="quiet">{w.firstOf(WORST, errors.length)}</p>}
    </section>
  )
}

function Trust({ calibration }: { calibration: Shapes['SplitCalibration'] }): JSX.Element {
  const w = words.value
  const bins = calibration.after.bins.filter(({ images }) => images > 0)
  return (
    <section>
      <h2>{w.trust}</h2>
      <p class="quiet">{w.trustHint}</p>
      <p>{w.ece(percent(calibration.before.ece), percent(calibration.after.ece))}</p>
      {calibration.reason && <p class="note warning">{calibration.reason}</p>}
      <Scroll label={w.trust}>
        <table>
          <thead><tr><th>{w.confidence}</th><th class="number">{w.support}</th><th class="number">{w.confidence}</th><th class="number">{w.accuracy}</th></tr></thead>
          <tbody>{bins.map((bin) => <tr key={bin.low}><th scope="row">{percent(bin.low, 0)}–{percent(bin.high, 0)}</th><td class="number">{count(bin.images)}</td><td class="number">{percent(bin.confidence ?? 0)}</td><td class="number">{percent(bin.accuracy ?? 0)}</td></tr>)}</tbody>
        </table>
      </Scroll>
    </section>
  )
}

function Scores({ rows }: { rows: Shapes['ClassScores'][] }): JSX.Element {
  const w = words.value
  const number = (value: number | null | undefined): string => (typeof value === 'number' ? decimal(value) : '–')
  const sorted = [...rows].sort((a, b) => (a.f1 ?? 0) - (b.f1 ?? 0))
  return (
    <section>
      <h2>{w.scores}</h2>
      <Scroll label={w.scores}>
        <table>
          <thead><tr><th>{w.filterClass}</th><th class="number">{w.precision}</th><th class="number">{w.recall}</th><th class="number">F1</th><th class="number">{w.support}</th></tr></thead>
          <tbody>{sorted.map((row) => <tr key={row.class}><th scope="row">{row.class}</th><td class="number">{number(row.precision)}</td><td class="number">{number(row.recall)}</td><td class="number">{number(row.f1)}</td><td class="number">{count(row.support)}</td></tr>)}</tbody>
        </table>
      </Scroll>
    </section>
  )
}

function Downloads({ version }: { version: Shapes['ModelVersion'] }): JSX.Element {
  const w = words.value
  return (
    <section>
      <h2>{w.downloads}</h2>
      <Scroll label={w.downloads}>
        <table><tbody>{Object.entries(version.files).map(([file, { size }]) => (
          <tr key={file}><th scope="row"><a href={`/models/${encodeURIComponent(version.model)}/versions/${version.number}/files/${encodeURIComponent(file)}`} download={file}>{file}</a></th><td class="number quiet">{bytes(size)}</td></tr>
        ))}</tbody></table>
      </Scroll>
    </section>
  )
}

function Aliases({ model, number, done }: { model: Shapes['Model']; number: number; done: () => void }): JSX.Element {
  const refusal = useSignal<Refusal | undefined>(undefined)
  const w = words.value
  const promote = async (): Promise<void> => {
    try {
      await answered(api.PUT('/models/{name}/aliases/{alias}', { params: { path: { name: model.name, alias: 'production' } }, body: { version: number } }))
      done()
    } catch (problem) {
      refusal.value = Refusal.of(problem)
    }
  }
  const aliases = Object.entries(model.aliases)
  return (
    <section>
      <h2>{w.aliases}</h2>
      <Trouble refusal={refusal.value} manual />
      {aliases.map(([alias, version]) => <p key={alias}><strong>{alias}</strong> → {model.name}@{version}</p>)}
      {model.aliases['production'] !== number && <div><button type="button" onClick={() => void promote()}>{w.promote}</button></div>}
    </section>
  )
}
