/** What can go wrong between the page and the model. Each kind has a text in both catalogues. */
export type FailureKind =
  | 'unauthorized' // the key is missing, unknown or expired
  | 'notFound' // no such model, or no such path
  | 'rejected' // the request itself is wrong
  | 'tooLarge'
  | 'tooMany' // queue full or rate limit
  | 'unavailable' // Nginx is there, the service is not
  | 'server' // the service failed
  | 'unreachable' // no answer at all
  | 'stalled' // the answer stopped coming
  | 'cut' // the answer ended without saying that it is complete
  | 'interrupted' // the page was closed while the answer came
  | 'malformed' // the answer is not what an OpenAI-compatible service sends

/** A failure as it is shown and kept. */
export interface Mishap {
  kind: FailureKind
  /** The server's own words, or empty. */
  message: string
  /** HTTP status, where there was one. */
  status?: number | undefined
  /** Seconds that the server asks us to wait. */
  retryAfter?: number | undefined
}

export class Failure extends Error implements Mishap {
  override readonly name = 'Failure'
  readonly kind: FailureKind
  readonly status: number | undefined
  readonly retryAfter: number | undefined

  constructor(kind: FailureKind, message = '', status?: number, retryAfter?: number) {
    super(message)
    this.kind = kind
    this.status = status
    this.retryAfter = retryAfter
  }
}

/** The same without what an error has besides, so that a database can keep it. */
export function mishapOf({ kind, message, status, retryAfter }: Mishap): Mishap {
  return { kind, message, ...(status !== undefined && { status }), ...(retryAfter !== undefined && { retryAfter }) }
}

function kindOf(status: number): FailureKind {
  if (status === 401 || status === 403) return 'unauthorized'
  if (status === 404) return 'notFound'
  if (status === 413) return 'tooLarge'
  if (status === 429) return 'tooMany'
  if (status === 502 || status === 503 || status === 504) return 'unavailable'
  return status >= 500 ? 'server' : 'rejected'
}

/** The text in an OpenAI-shaped `{"error": {"message": …}}`, or undefined. */
export function errorMessage(body: unknown): string | undefined {
  const error = (body as { error?: unknown } | null)?.error
  if (typeof error === 'string') return error
  const message = (error as { message?: unknown } | null | undefined)?.message
  return typeof message === 'string' ? message : undefined
}

function retryAfterOf(headers: Headers): number | undefined {
  const seconds = Number(headers.get('retry-after') ?? Number.NaN)
  return Number.isFinite(seconds) ? seconds : undefined
}

/** Reads the body of an answer that is not 2xx. */
export async function failureOf(response: Response): Promise<Failure> {
  const text = await response.text().catch(() => '')
  let message: string | undefined
  try {
    message = errorMessage(JSON.parse(text))
  } catch {
    // Not JSON: a proxy's HTML page says nothing that the status does not.
  }
  return new Failure(kindOf(response.status), message, response.status, retryAfterOf(response.headers))
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === 'AbortError'

/** Whatever was thrown, as a Failure: everything unknown came from the network. */
export function asFailure(error: unknown, otherwise: FailureKind): Failure {
  return error instanceof Failure ? error : new Failure(otherwise, error instanceof Error ? error.message : '')
}
