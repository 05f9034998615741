import { useEffect, useState } from 'react'
import { usePreference } from '../preferences/useStored'

export const APPEARANCES = ['system', 'light', 'dark'] as const
export type Appearance = (typeof APPEARANCES)[number]

const system = matchMedia('(prefers-color-scheme: dark)')

/** The reader's choice, and what it comes to now. */
export function useAppearance() {
  const [choice, setChoice] = usePreference<Appearance>('appearance', APPEARANCES, 'system')
  const [systemDark, setSystemDark] = useState(system.matches)
  useEffect(() => {
    const follow = () => setSystemDark(system.matches)
    system.addEventListener('change', follow)
    return () => system.removeEventListener('change', follow)
  }, [])

  const dark = choice === 'system' ? systemDark : choice === 'dark'
  useEffect(() => {
    document.documentElement.style.colorScheme = dark ? 'dark' : 'light' // scroll bars and the browser's own controls
  }, [dark])
  return { choice, setChoice, dark }
}
