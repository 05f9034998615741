import { type AnswerPart, readAnswer } from './answer'
import { asFailure, Failure, failureOf, isAbort } from './failure'

export type ContentPart = { type: 'text'; text: string } | { type: 'image_url'; image_url: { url: string } }

export interface Turn {
  role: 'system' | 'user' | 'assistant'
  content: string | ContentPart[]
}

/** A chat completion as it is asked for; sampling settings stand beside these fields under their API names. */
export interface ChatBody {
  model: string
  messages: Turn[]
  [setting: string]: unknown
}

export interface Model {
  name: string
  /** Longest conversation in tokens, where the service says so. */
  contextLength: number | null
}

export interface Api {
  /** The models that can chat. */
  listModels(signal: AbortSignal): Promise<Model[]>
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

/** Tasks of models that can chat; another service names none. */
const CHAT_TASKS = new Set(['chat', 'both'])

interface ModelList {
  data?: { id: string; task?: string; max_model_len?: number | null }[]
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
      const body = (await response.json().catch(() => null)) as ModelList | null
      if (!Array.isArray(body?.data)) throw new Failure('malformed')
      const chats = body.data.filter((model) => model.task === undefined || CHAT_TASKS.has(model.task))
      return chats.map((model) => ({ name: model.id, contextLength: model.max_model_len ?? null }))
    },
    async *streamChat(body, signal) {
      const response = await request('/chat/completions', {
        method: 'POST',
        body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
        signal,
      })
      if (!response.body) throw new Failure('malformed')
      yield* readAnswer(bytesOf(response.body))
    },
  }
}
