/** A number with its noun, in the form that the language has for that number (Unicode CLDR). */
export const plural = (language: string) => (value: number, one: string, other: string): string =>
  `${new Intl.NumberFormat(language).format(value)} ${new Intl.PluralRules(language).select(value) === 'one' ? one : other}`
