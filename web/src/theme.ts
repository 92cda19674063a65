/** Light or dark: the system's choice until somebody makes one here. */
import { signal } from '@preact/signals'

const KEPT = 'topwork.theme'
const system = matchMedia('(prefers-color-scheme: dark)')
export const isDark = signal(false)

function show(theme: string | null): void {
  if (theme) document.documentElement.dataset['theme'] = theme
  isDark.value = theme ? theme === 'dark' : system.matches
}

export function restore(): void {
  show(localStorage.getItem(KEPT))
  system.addEventListener('change', () => show(localStorage.getItem(KEPT)))
}

export function toggle(): void {
  const next = isDark.value ? 'light' : 'dark'
  localStorage.setItem(KEPT, next)
  show(next)
}
