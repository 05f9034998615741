import { useCallback, useState } from 'react'

const PREFIX = 'bedplate.'

/** A choice that outlives the tab. Never for secrets: see key/keyStore.ts. */
export function usePreference<T extends string>(name: string, choices: readonly T[], initial: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => {
    const stored = localStorage.getItem(PREFIX + name)
    return choices.find((choice) => choice === stored) ?? initial
  })
  const choose = useCallback(
    (next: T) => {
      localStorage.setItem(PREFIX + name, next)
      setValue(next)
    },
    [name],
  )
  return [value, choose]
}
