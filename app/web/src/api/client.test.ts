import { afterEach, expect, test, vi } from 'vitest'
import { createApi } from './client'
import { Failure } from './failure'

const BODY = { model: 'm', messages: [{ role: 'user' as const, content: 'Hi' }] }

afterEach(() => {
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

/** Stands in for the network. */
function answerWith(answer: (url: string, init: RequestInit) => Promise<Response>) {
  const fetch = vi.fn(answer)
  vi.stubGlobal('fetch', fetch)
  return fetch
}

async function drain(signal = new AbortController().signal): Promise<unknown> {
  try {
    for await (const _ of createApi('/v1', 'bp-k').streamChat(BODY, signal));
  } catch (error) {
    return error
  }
  return undefined
}

test('the key goes into the header, to our own paths', async () => {
  const fetch = answerWith(async () => Response.json({ data: [{ id: 'tutor' }] }))
  const models = await createApi('/v1', 'bp-k').listModels(new AbortController().signal)
  expect(models).toEqual([{ name: 'tutor', contextLength: null }])
  const [url, init] = fetch.mock.calls[0] ?? []
  expect(url).toBe('/v1/models')
  expect(new Headers(init?.headers).get('authorization')).toBe('Bearer bp-k')
})

test('without a key no header is sent', async () => {
  const fetch = answerWith(async () => Response.json({ data: [] }))
  await createApi('/v1', null).listModels(new AbortController().signal)
  expect(new Headers(fetch.mock.calls[0]?.[1].headers).has('authorization')).toBe(false)
})

test('a network that does not answer is unreachable', async () => {
  answerWith(() => Promise.reject(new TypeError('Failed to fetch')))
  expect(await drain()).toMatchObject({ kind: 'unreachable', message: 'Failed to fetch' })
})

test('a connection that breaks in the middle is a cut answer', async () => {
  const body = new ReadableStream({ start: (controller) => controller.error(new TypeError('network error')) })
  answerWith(async () => new Response(body))
  expect(await drain()).toMatchObject({ kind: 'cut', message: 'network error' })
})

test('a stop is a stop, not a failure', async () => {
  const stopped = new DOMException('stop', 'AbortError')
  answerWith(() => Promise.reject(stopped))
  expect(await drain()).toBe(stopped)
})

test('a minute without a byte ends the answer and the connection', async () => {
  vi.useFakeTimers()
  const cancel = vi.fn()
  answerWith(async () => new Response(new ReadableStream({ cancel })))
  const result = drain()
  await vi.advanceTimersByTimeAsync(61_000)
  expect(await result).toBeInstanceOf(Failure)
  expect(await result).toMatchObject({ kind: 'stalled' })
  expect(cancel).toHaveBeenCalledOnce()
})

test('models that only embed or rank are not offered for a chat', async () => {
  const others = [{ id: 'e', task: 'embedding' }, { id: 'r', task: 'rerank' }]
  const data = [...others, { id: 'b', task: 'both', max_model_len: 9 }, { id: 'c' }]
  answerWith(async () => Response.json({ data }))
  const models = await createApi('/v1', null).listModels(new AbortController().signal)
  expect(models).toEqual([{ name: 'b', contextLength: 9 }, { name: 'c', contextLength: null }])
})

test('a model list that is none is malformed', async () => {
  answerWith(async () => new Response('<html>'))
  await expect(createApi('/v1', null).listModels(new AbortController().signal)).rejects.toMatchObject({ kind: 'malformed' })
})
