import { useCallback, useEffect, useState } from 'react'
import type { Api } from '../api/client'
import { asFailure, type Failure, isAbort } from '../api/failure'

export interface Models {
  /** Null until the list has arrived. */
  names: string[] | null
  failure: Failure | null
  reload: () => void
}

/** The models that the service offers; read again for each new `api`. Null: nobody to ask yet. */
export function useModels(api: Api | null): Models {
  const [names, setNames] = useState<string[] | null>(null)
  const [failure, setFailure] = useState<Failure | null>(null)
  const [attempt, setAttempt] = useState(0)
  const reload = useCallback(() => setAttempt((count) => count + 1), [])

  useEffect(() => {
    setNames(null)
    setFailure(null)
    if (!api) return
    const abort = new AbortController()
    api.listModels(abort.signal).then(setNames, (error: unknown) => {
      if (!isAbort(error)) setFailure(asFailure(error, 'malformed'))
    })
    return () => abort.abort()
  }, [api, attempt])

  return { names, failure, reload }
}
