import { type AnswerPart, readAnswer } from './answer'
import { asFailure, Failure, failureOf, isAbort } from './failure'

export interface Turn {
  role: 'system' | 'user' | 'assistant'
  content: string
}

export interface ChatBody {
  model: string
  messages: Turn[]
}

export interface Api {
  /** The models that can chat. */
  listModels(signal: AbortSignal): Promise<string[]>
  streamChat(body: ChatBody, signal: AbortSignal): AsyncGenerator<AnswerPart>
}

/** The service sends a comment every 15 s while it is silent, so a minute without a byte is a dead connection. */
const STALL_MS = 60_000

/** The bytes of a body; a connection that breaks or falls silent ends in a Failure. */
async function* bytesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader()
  let timer: ReturnType<typeof setTimeout> | undefined
  const stalled = () =>
    new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Failure('stalled')), STALL_MS)
    })
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), stalled()])
      clearTimeout(timer)
      if (done) return
      yield value
    }
  } catch (error) {
    throw isAbort(error) ? error : asFailure(error, 'cut')
  } finally {
    clearTimeout(timer)
    await reader.cancel().catch(() => undefined) // so that the service stops computing
  }
}

export function createApi(base: string, key: string | null): Api {
  async function request(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers({ 'content-type': 'application/json' })
    if (key) headers.set('authorization', `Bearer ${key}`)
    let response: Response
    try {
      response = await fetch(base + path, { ...init, headers, cache: 'no-store', credentials: 'omit' })
    } catch (error) {
      throw isAbort(error) ? error : asFailure(error, 'unreachable')
    }
    if (!response.ok) throw await failureOf(response)
    return response
  }

  return {
    async listModels(signal) {
      const response = await request('/models', { signal })
      const body = (await response.json().catch(() => null)) as { data?: { id: string; task?: string }[] } | null
      if (!Array.isArray(body?.data)) throw new Failure('malformed')
      return body.data.filter((model) => model.task !== 'embedding').map((model) => model.id)
    },
    async *streamChat(body, signal) {
      const response = await request('/chat/completions', {
        method: 'POST',
        body: JSON.stringify({ ...body, stream: true }),
        signal,
      })
      if (!response.body) throw new Failure('malformed')
      yield* readAnswer(bytesOf(response.body))
    },
  }
}
