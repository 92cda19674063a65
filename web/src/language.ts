/** The language of the page: the browser's, or the one that was chosen. */
import { computed, effect, signal } from '@preact/signals'
import { german } from './catalogue.de'
import { english, type Catalogue } from './catalogue.en'

export type Language = 'en' | 'de'
const catalogues: Record<Language, Catalogue> = { en: english, de: german }
const KEPT = 'topwork.language'

function first(): Language {
  const wanted = localStorage.getItem(KEPT) ?? navigator.language
  return wanted.startsWith('de') ? 'de' : 'en'
}

export const language = signal<Language>(first())
export const words = computed(() => catalogues[language.value])

effect(() => {
  document.documentElement.lang = language.value
})

export function choose(next: Language): void {
  localStorage.setItem(KEPT, next)
  language.value = next
}

const format = (value: number, options: Intl.NumberFormatOptions): string =>
  new Intl.NumberFormat(language.value, options).format(value)

export const count = (value: number): string => format(value, {})
export const percent = (share: number, digits = 1): string =>
  format(share, { style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits })
export const decimal = (value: number): string => format(value, { maximumSignificantDigits: 4 })

/** Write bytes in the unit that keeps them short. */
export function bytes(value: number): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']
  const power = Math.min(units.length - 1, value < 1 ? 0 : Math.floor(Math.log10(value) / 3))
  const unitDisplay = power ? 'short' : 'long' // The short form of a byte has no plural.
  const options = { style: 'unit', unit: units[power], unitDisplay, maximumFractionDigits: power > 1 ? 1 : 0 } as const
  return format(value / 1000 ** power, options)
}

/** Write seconds as people say them: 40 s, 12 min, 3 h 5 min. */
export function duration(seconds: number): string {
  const unit = (value: number, name: string): string =>
    format(Math.round(value), { style: 'unit', unit: name, unitDisplay: 'short' })
  if (seconds < 90) return unit(seconds, 'second')
  const minutes = Math.round(seconds / 60)
  if (minutes < 90) return unit(minutes, 'minute')
  const rest = minutes % 60
  return [unit((minutes - rest) / 60, 'hour'), rest > 0 && unit(rest, 'minute')].filter(Boolean).join(' ')
}

export const moment = (text: string): string =>
  new Intl.DateTimeFormat(language.value, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(text))
