import { expect, test } from 'vitest'
import { append, emptyAnswer, speedOf } from './message'

const answer = emptyAnswer('chat', 'question', 'm')

test('an answer grows by its parts, and the first and last word have their time', () => {
  const parts = [{ reasoning: 'Hm' }, { content: 'Hel' }, { content: 'lo' }, { finishReason: 'stop' }]
  const grown = parts.reduce((message, part, at) => append(message, part, at * 100), answer)
  expect(grown).toMatchObject({ content: 'Hello', reasoning: 'Hm', finishReason: 'stop', timing: { first: 0, last: 200 } })
})

test('an empty step changes nothing', () => {
  expect(append(answer, {}, 5)).toEqual(answer)
})

test('the pieces of tool calls are put together by their index', () => {
  const parts = [
    { toolCalls: [{ index: 0, id: 'a', name: 'add' }] },
    { toolCalls: [{ index: 0, arguments: '{"x":' }] },
    { toolCalls: [{ index: 1, id: 'b', name: 'sub' }] },
    { toolCalls: [{ index: 0, arguments: '1}' }] },
  ]
  expect(parts.reduce((message, part) => append(message, part, 0), answer).toolCalls).toEqual([
    { id: 'a', name: 'add', arguments: '{"x":1}' },
    { id: 'b', name: 'sub', arguments: '' },
  ])
})

test('speed counts the tokens after the first', () => {
  const spoken = { ...answer, usage: { prompt: 5, completion: 11 }, timing: { first: 100, last: 1100 } }
  expect(speedOf(spoken)).toBe(10)
  expect(speedOf({ ...spoken, usage: { prompt: 5, completion: 1 } })).toBeNull()
  expect(speedOf(answer)).toBeNull()
})
