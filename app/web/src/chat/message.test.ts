import { expect, test } from 'vitest'
import { Failure } from '../api/failure'
import { append, emptyAnswer, question, turnsOf } from './message'

const answer = (content: string) => append(emptyAnswer(), { content })

test('an answer grows by its parts and keeps what it has when it fails', () => {
  const failure = new Failure('cut')
  const parts = [{ reasoning: 'Hm' }, { content: 'Hel' }, { content: 'lo' }, { failure }]
  expect(parts.reduce(append, emptyAnswer())).toEqual({ role: 'assistant', content: 'Hello', reasoning: 'Hm', failure })
})

test('an empty step changes nothing', () => {
  expect(append(answer('Hello'), {})).toEqual(answer('Hello'))
})

test('a question that got no answer is not told to the model again', () => {
  const messages = [question('1'), answer('one'), question('2'), emptyAnswer(), question('3'), answer('thr')]
  expect(turnsOf(messages).map((turn) => turn.content)).toEqual(['1', 'one', '3', 'thr'])
})
