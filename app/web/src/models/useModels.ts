import { useCallback, useEffect, useState } from 'react'
import type { Api, Model } from '../api/client'
import { asFailure, type Failure, isAbort } from '../api/failure'

export interface Models {
  /** Null until the list has arrived. */
  list: Model[] | null
  failure: Failure | null
  reload: () => void
}

/** The models that the service offers; read again for each new `api`. Null: nobody to ask yet. */
export function useModels(api: Api | null): Models {
  const [list, setList] = useState<Model[] | null>(null)
  const [failure, setFailure] = useState<Failure | null>(null)
  const [attempt, setAttempt] = useState(0)
  const reload = useCallback(() => setAttempt((count) => count + 1), [])

  useEffect(() => {
    setList(null)
    setFailure(null)
    if (!api) return
    const abort = new AbortController()
    api.listModels(abort.signal).then(setList, (error: unknown) => {
      if (!isAbort(error)) setFailure(asFailure(error, 'malformed'))
    })
    return () => abort.abort()
  }, [api, attempt])

  return { list, failure, reload }
}
