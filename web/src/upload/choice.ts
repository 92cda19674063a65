/** What somebody has dropped or picked, looked at before anything is sent. */
import { signal } from '@preact/signals'
import { tar, type Entry } from './tar'

// As core/ingest/archive.py has them. They only count for the preview: the service looks at the bytes.
const IMAGE = /\.(jpe?g|png|webp|bmp|gif|tiff?|avif|hei[cf]|hif)$/i
const TABLE = /\.(csv|tsv|jsonl?|ndjson|txt|lst|xml)$/i
const ARCHIVE = /\.(zip|tar|tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst))$/i
const HIDDEN = /(^|\/)(\.|(__macosx|@eadir|\$recycle\.bin|system volume information)\/|((eh)?thumbs\.db|desktop\.ini)$)/i

export type Choice = {
  /** Tells this choice from another one of the same name. */
  id: number
  name: string
  archive: Blob | null
  /** The name of the file that is sent. */
  filename: string
  /** All that is sent: what is a table, or in a format that only the service knows, is its to judge. */
  entries: readonly Entry[]
  images: number
  tables: number
  classes: Map<string, number>
  bytes: number
}

/** The choice that a drop on any screen has made, for the screen that takes it on. */
export const chosen = signal<Choice | null>(null)
/** Whether a dropped folder is being walked. */
export const scanning = signal(false)
/** Why the last drop could not be read, in the browser's words; empty where it could. */
export const unread = signal('')

let choices = 0

/** Look at files by name: one archive stays as it is, of anything else all is kept that is not hidden. */
export function look(found: readonly Entry[]): Choice {
  const id = (choices += 1)
  const only = found.length === 1 ? found[0] : undefined
  if (only && ARCHIVE.test(only.path)) {
    const filename = only.path.split('/').at(-1) ?? only.path
    const archive = { archive: only.file, filename, name: filename.replace(ARCHIVE, '') }
    return { id, ...archive, entries: found, images: 0, tables: 0, classes: new Map(), bytes: only.file.size }
  }
  const entries = found.filter(({ path }) => !HIDDEN.test(path))
  const images = entries.filter(({ path }) => IMAGE.test(path))
  const classes = new Map<string, number>()
  for (const { path } of images) {
    const folder = path.split('/').at(-2) ?? ''
    classes.set(folder, (classes.get(folder) ?? 0) + 1)
  }
  const [first = ''] = entries[0]?.path.split('/') ?? []
  const name = entries.every(({ path }) => path.startsWith(`${first}/`)) ? first : ''
  return {
    id, name, archive: null, filename: `${name || 'images'}.tar`, entries, classes,
    images: images.length,
    tables: entries.filter(({ path }) => TABLE.test(path)).length,
    bytes: entries.reduce((sum, { file }) => sum + file.size, 0),
  }
}

/** The one body that is sent. */
export const packed = (choice: Choice): Blob => choice.archive ?? tar(choice.entries)

/**
 * Tell this choice from any other, so that an upload goes on with the same bytes alone: a hash of the
 * path, size and time of change of each file. It need not withstand anybody, and is there without
 * HTTPS, where the browser's own hashes are not (FNV-1a, draft-eastlake-fnv, in two lanes).
 */
export function fingerprint(choice: Choice): string {
  let [low, high] = [0x811c9dc5, 0x050c5d1f]
  const files = choice.entries.map(({ path, file }) => [path, file.size, (file as Partial<File>).lastModified ?? 0])
  for (const letter of JSON.stringify(files)) {
    const code = letter.codePointAt(0) ?? 0
    low = Math.imul(low ^ code, 0x01000193)
    high = Math.imul(high ^ code, 0x5bd1e995) ^ (high >>> 13)
  }
  const digits = [low, high].map((lane) => (lane >>> 0).toString(16).padStart(8, '0')).join('')
  return `topwork-${choice.filename}-${choice.bytes}-${choice.entries.length}-${digits}`
}

/** Files of an `<input>`; those of a folder carry their paths. */
export function picked(files: FileList): Entry[] {
  return Array.from(files, (file) => ({ path: file.webkitRelativePath || file.name, file }))
}

/** Files of a drop, with those of dropped folders at any depth. */
export async function dropped(transfer: DataTransfer): Promise<Entry[]> {
  const roots = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter((one) => one !== null)
  return (await Promise.all(roots.map(within))).flat()
}

async function within(root: FileSystemEntry): Promise<Entry[]> {
  const path = root.fullPath.replace(/^\//, '')
  if (isFile(root)) return [{ path, file: await new Promise<File>((take, fail) => root.file(take, fail)) }]
  const reader = (root as FileSystemDirectoryEntry).createReader()
  const found: Entry[] = []
  for (;;) {
    // A reader hands out some hundred entries at a time and ends with none.
    const some = await new Promise<FileSystemEntry[]>((take, fail) => reader.readEntries(take, fail))
    if (some.length === 0) return found
    for (const one of some) found.push(...(await within(one)))
  }
}

const isFile = (entry: FileSystemEntry): entry is FileSystemFileEntry => entry.isFile

/** The image, where a choice is one file that is no archive and lies in no folder: it is for predicting. */
export function oneImage({ archive, entries }: Choice): Blob | null {
  const [only] = entries
  if (archive || !only || entries.length > 1 || only.path.includes('/')) return null
  return IMAGE.test(only.path) || only.file.type.startsWith('image/') ? only.file : null
}
