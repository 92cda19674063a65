/** What somebody has dropped or picked, looked at before anything is sent. */
import { signal } from '@preact/signals'
import { tar, type Entry } from './tar'

const IMAGE = /\.(jpe?g|jfif|png|webp|bmp|dib|gif|tiff?)$/i
const ARCHIVE = /\.(zip|tar|tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst))$/i
const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$)/

export type Choice = {
  name: string
  archive: Blob | null
  images: Entry[]
  skipped: number
  classes: Map<string, number>
  bytes: number
}

/** The choice that a drop on any screen has made, for the screen that takes it on. */
export const chosen = signal<Choice | null>(null)

/** Look at files by name: one archive stays as it is, of anything else the images are kept. */
export function look(entries: readonly Entry[]): Choice {
  const only = entries.length === 1 ? entries[0] : undefined
  if (only && ARCHIVE.test(only.path)) {
    const name = only.path.replace(ARCHIVE, '')
    return { name, archive: only.file, images: [], skipped: 0, classes: new Map(), bytes: only.file.size }
  }
  const seen = entries.filter(({ path }) => !HIDDEN.test(path))
  const images = seen.filter(({ path }) => IMAGE.test(path))
  const classes = new Map<string, number>()
  for (const { path } of images) {
    const folder = path.split('/').at(-2) ?? ''
    classes.set(folder, (classes.get(folder) ?? 0) + 1)
  }
  const [first = ''] = images[0]?.path.split('/') ?? []
  const shared = images.every(({ path }) => path.startsWith(`${first}/`))
  const bytes = images.reduce((sum, { file }) => sum + file.size, 0)
  return { name: shared ? first : '', archive: null, images, skipped: seen.length - images.length, classes, bytes }
}

/** The one body that is sent. */
export const packed = (choice: Choice): Blob => choice.archive ?? tar(choice.images)

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

/** Whether a choice is one image, which is for predicting and not for training. */
export const isOneImage = (choice: Choice): boolean =>
  choice.images.length === 1 && !choice.images[0]?.path.includes('/')
