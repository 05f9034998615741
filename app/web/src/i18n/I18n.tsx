import { createContext, type ReactNode, useContext, useEffect, useMemo } from 'react'
import { usePreference } from '../preferences/useStored'
import { type Language, type Translate, translator } from './catalogue'

interface I18n {
  language: Language
  setLanguage: (language: Language) => void
  t: Translate
}

const I18nContext = createContext<I18n | null>(null)

export function useI18n(): I18n {
  const value = useContext(I18nContext)
  if (!value) throw new Error('useI18n outside of I18nProvider')
  return value
}

const LANGUAGES = ['en', 'zh'] as const
const spoken = (): Language => (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en')

export function I18nProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = usePreference('language', LANGUAGES, spoken())
  useEffect(() => {
    document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en'
  }, [language])
  const value = useMemo(() => ({ language, setLanguage, t: translator(language) }), [language, setLanguage])
  return <I18nContext value={value}>{children}</I18nContext>
}
