import { en } from './en'
import { zh } from './zh'

export type TextKey = keyof typeof en
export type Language = 'en' | 'zh'
export type Values = Record<string, string | number>
export type Translate = (key: TextKey, values?: Values) => string

export const catalogues: Record<Language, Record<TextKey, string>> = { en, zh }

export function translator(language: Language): Translate {
  return (key, values = {}) =>
    catalogues[language][key].replace(/\{(\w+)\}/g, (place, name: string) => String(values[name] ?? place))
}
