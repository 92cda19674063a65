/** The page: follows the address, shows its screen, takes drops anywhere. */
import './tokens.css'
import './page.css'
import { signal } from '@preact/signals'
import { render, type JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { address, follow, go, href } from './address'
import { choose, language, words } from './language'
import { Compare } from './screens/compare'
import { Dataset } from './screens/dataset'
import { Datasets } from './screens/datasets'
import { Job } from './screens/job'
import { Jobs } from './screens/jobs'
import { Model } from './screens/model'
import { Models } from './screens/models'
import { NewDataset } from './screens/new_dataset'
import { Service } from './screens/service'
import { SignIn } from './screens/sign_in'
import { Start } from './screens/start'
import { Train } from './screens/train'
import { Try, tried } from './screens/try'
import { signedOut } from './session'
import { isDark, restore, toggle } from './theme'
import { chosen, dropped, isOneImage, look } from './upload/choice'

const ROOMS = ['datasets', 'train', 'jobs', 'models', 'try', 'service'] as const
const over = signal(false)

function Screen(): JSX.Element {
  const [room = '', thing = '', more = ''] = address.value.parts
  if (signedOut.value) return <SignIn />
  if (room === '') return <Start />
  if (room === 'datasets' && thing === 'new') return <NewDataset />
  if (room === 'datasets') return thing ? <Dataset id={thing.split('@')[0] ?? ''} number={thing.split('@')[1]} /> : <Datasets />
  if (room === 'train') return <Train />
  if (room === 'jobs') return thing ? <Job id={thing} /> : <Jobs />
  if (room === 'models') return thing ? <Model name={thing.split('@')[0] ?? ''} number={thing.split('@')[1]} /> : <Models />
  if (room === 'compare') return <Compare />
  if (room === 'try' && !more) return <Try model={thing} />
  if (room === 'service') return <Service />
  return (
    <section>
      <h1>{words.value.notFound}</h1>
      <p><a href="#/">{words.value.back}</a></p>
    </section>
  )
}

function Page(): JSX.Element {
  const main = useRef<HTMLElement>(null)
  const w = words.value
  const names = { datasets: w.data, train: w.train, jobs: w.jobs, models: w.models, try: w.try, service: w.admin }
  const where = address.value.parts.join('/')
  useEffect(() => {
    document.title = [main.current?.querySelector('h1')?.textContent, 'Topwork'].filter(Boolean).join(' · ')
    main.current?.focus({ preventScroll: true })
    scrollTo(0, 0)
  }, [where])
  return (
    <>
      <a class="skip" href="#/" onClick={(event) => { event.preventDefault(); main.current?.focus() }}>{w.skip}</a>
      <header class="top">
        <div>
          <a class="brand" href="#/">
            <svg width="26" height="26" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
              <path d="M12 21v-9M12 13c0-5 3-8 8-9 0 6-3 9-8 9zM12 16c0-4-2.5-6-7-7 0 4.5 2.5 7 7 7z" />
            </svg>
            Topwork
          </a>
          <nav class="rooms" aria-label={w.rooms}>
            {ROOMS.map((room) => (
              <a key={room} href={href([room])} aria-current={address.value.parts[0] === room ? 'page' : undefined}>{names[room]}</a>
            ))}
          </nav>
          <div class="row">
            <button type="button" class="plain" lang={language.value === 'en' ? 'de' : 'en'} onClick={() => choose(language.value === 'en' ? 'de' : 'en')}>{w.language}</button>
            <button type="button" class="plain" onClick={toggle}>{isDark.value ? w.light : w.dark}</button>
          </div>
        </div>
      </header>
      <main ref={main} tabIndex={-1}><Screen /></main>
      <footer>
        <span>{w.promise}</span>
        <a href="/docs">{w.apiDocs}</a>
      </footer>
    </>
  )
}

/** Take what is dropped anywhere: one image is tried, anything else becomes a data set. */
function takeDrops(): void {
  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false
  const mark = (on: boolean): void => {
    over.value = on
    document.body.classList.toggle('over', on)
  }
  addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return
    event.preventDefault()
    mark(true)
  })
  addEventListener('dragleave', (event) => event.relatedTarget === null && mark(false))
  addEventListener('drop', async (event) => {
    if (!event.dataTransfer || !hasFiles(event)) return
    event.preventDefault()
    mark(false)
    const choice = look(await dropped(event.dataTransfer))
    const image = choice.images[0]
    if (isOneImage(choice) && image) {
      tried.value = image.file
      if (address.value.parts[0] !== 'try') go(['try'])
    } else {
      chosen.value = choice
      go(['datasets', 'new'])
    }
  })
}

restore()
follow()
takeDrops()
const root = document.getElementById('page')
if (root) render(<Page />, root)
