import { useCallback, useState } from 'react'

const PREFIX = 'bedplate.'

/** A value that outlives the tab, read through `parse`. Never for secrets: see key/keyStore.ts. */
export function useStored<T>(name: string, parse: (raw: unknown) => T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => parse(stored(name)))
  const store = useCallback(
    (next: T) => {
      try {
        localStorage.setItem(PREFIX + name, JSON.stringify(next))
      } catch {
        // Full or forbidden: the choice holds until the tab is closed.
      }
      setValue(next)
    },
    [name],
  )
  return [value, store]
}

function stored(name: string): unknown {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name) ?? 'null')
  } catch {
    return null
  }
}

/** The same for one of several words. */
export function usePreference<T extends string>(name: string, choices: readonly T[], initial: T): [T, (value: T) => void] {
  return useStored<T>(name, (raw) => choices.find((choice) => choice === raw) ?? initial)
}
