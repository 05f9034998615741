import { expect, test } from 'vitest'
import { type AnswerPart, readAnswer } from './answer'
import { Failure } from './failure'

const delta = (content: string) => `data: {"choices":[{"delta":{"content":"${content}"},"finish_reason":null}]}\n\n`
const FINISH = 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'

async function* bytes(...events: string[]) {
  for (const event of events) yield new TextEncoder().encode(event)
}

/** The parts of a stream, and the Failure that ended it if one did. */
async function read(...events: string[]): Promise<{ parts: AnswerPart[]; failure: Failure | undefined }> {
  const parts: AnswerPart[] = []
  try {
    for await (const part of readAnswer(bytes(...events))) parts.push(part)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { parts, failure: error }
  }
  return { parts, failure: undefined }
}

test('a finished answer has its parts in order and a finish reason', async () => {
  const { parts, failure } = await read(': alive\n\n', delta('Hel'), delta('lo'), FINISH, 'data: [DONE]\n\n')
  expect(parts).toEqual([{ content: 'Hel' }, { content: 'lo' }, { finishReason: 'stop' }])
  expect(failure).toBeUndefined()
})

test('an answer without finish_reason is cut, even when it says that it is done', async () => {
  for (const end of [[], ['data: [DONE]\n\n']]) {
    const { parts, failure } = await read(delta('Hel'), ...end)
    expect(parts).toEqual([{ content: 'Hel' }])
    expect(failure?.kind).toBe('cut')
  }
})

test('an error inside the stream is the server’s own message', async () => {
  const { failure } = await read(delta('Hel'), 'data: {"error":{"message":"The engine was restarted."}}\n\n', FINISH)
  expect([failure?.kind, failure?.message]).toEqual(['server', 'The engine was restarted.'])
})

test.each(['data: <html>\n\n', 'data: null\n\n', 'data: 7\n\n'])('%j is malformed', async (event) => {
  expect((await read(event)).failure?.kind).toBe('malformed')
})

test('reasoning is kept apart, and a chunk that says nothing is no part', async () => {
  const reasoning = 'data: {"choices":[{"delta":{"role":"assistant","reasoning_content":"Hm"}}]}\n\n'
  const { parts } = await read(reasoning, 'data: {"choices":[]}\n\n', FINISH)
  expect(parts).toEqual([{ reasoning: 'Hm' }, { finishReason: 'stop' }])
})

test('tool calls and usage are read', async () => {
  const call = '{"index":0,"id":"c","type":"function","function":{"name":"add","arguments":""}}'
  const calls = `data: {"choices":[{"delta":{"tool_calls":[${call}]}}]}\n\n`
  const usage = 'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
  const { parts } = await read(calls, FINISH, usage)
  expect(parts).toEqual([
    { toolCalls: [{ index: 0, id: 'c', name: 'add' }] },
    { finishReason: 'stop' },
    { usage: { prompt: 3, completion: 4 } },
  ])
})
