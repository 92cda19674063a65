/** The page: follows the address, shows its screen, takes drops anywhere. */
import './tokens.css'
import './page.css'
import { render, type JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { address, follow, go, href } from './address'
import { dropStrayClicks } from './clicks'
import { choose, language, words } from './language'
import { Problem } from './parts/pieces'
import { UploadLine } from './parts/upload_line'
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
import { chosen, dropped, look, oneImage, scanning, unread } from './upload/choice'
import { ended } from './upload/running'

const ROOMS = ['datasets', 'train', 'jobs', 'models', 'try', 'service'] as const

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
    main.current?.focus({ preventScroll: true })
    scrollTo(0, 0)
  }, [where])
  useEffect(() => {
    // A heading comes with its data and changes with the language, so it is followed, not read once.
    const title = (): void => {
      document.title = [main.current?.querySelector('h1')?.textContent, 'Topwork'].filter(Boolean).join(' · ')
    }
    const watch = new MutationObserver(title)
    if (main.current) watch.observe(main.current, { childList: true, characterData: true, subtree: true })
    title()
    return () => watch.disconnect()
  }, [])
  return (
    <>
      <header class="top">
        <a class="skip" href="#/" onClick={(event) => { event.preventDefault(); main.current?.focus() }}>{w.skip}</a>
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
      <main ref={main} tabIndex={-1}>
        {(where !== 'datasets/new' || scanning.value || ended.value) && <UploadLine />}
        {unread.value && <Problem message={w.failed} hint={unread.value} />}
        <Screen />
      </main>
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
    unread.value = ''
    scanning.value = true
    try {
      const choice = look(await dropped(event.dataTransfer))
      const image = oneImage(choice)
      if (image) tried.value = image
      else chosen.value = choice
      if (!image) go(['datasets', 'new'])
      else if (address.value.parts[0] !== 'try') go(['try'])
    } catch (error) {
      unread.value = String(error) // A folder that vanishes, or that the browser may not read.
    } finally {
      scanning.value = false
    }
  })
}

restore()
follow()
dropStrayClicks()
takeDrops()
const root = document.getElementById('page')
if (root) render(<Page />, root)
