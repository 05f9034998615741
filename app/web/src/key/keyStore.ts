import { useState } from 'react'

const NAME = 'bedplate.key'

interface KeyStore {
  key: string | null
  /** With `remember` the key outlives a reload, but not the tab. */
  keep: (key: string, remember: boolean) => void
  forget: () => void
}

/** The API key lives in memory and, only if asked, in sessionStorage. */
export function useKeyStore(): KeyStore {
  const [key, setKey] = useState(() => sessionStorage.getItem(NAME))
  return {
    key,
    keep(next, remember) {
      if (remember) sessionStorage.setItem(NAME, next)
      else sessionStorage.removeItem(NAME)
      setKey(next)
    },
    forget() {
      sessionStorage.removeItem(NAME)
      setKey(null)
    },
  }
}
