import { expect, test } from 'vitest'
import { failureOf } from './failure'

const answer = (status: number, body: string, headers: HeadersInit = {}) =>
  failureOf(new Response(body, { status, headers }))

test.each([
  [400, 'rejected'],
  [401, 'unauthorized'],
  [403, 'unauthorized'],
  [404, 'notFound'],
  [413, 'tooLarge'],
  [422, 'rejected'],
  [429, 'tooMany'],
  [500, 'server'],
  [502, 'unavailable'],
  [503, 'unavailable'],
  [504, 'unavailable'],
])('HTTP %i is "%s"', async (status, kind) => {
  const failure = await answer(status, '')
  expect([failure.kind, failure.status, failure.message]).toEqual([kind, status, ''])
})

test('the server’s message and its wish to be left alone for a while are kept', async () => {
  const failure = await answer(503, '{"error":{"message":"Loading."}}', { 'retry-after': '7' })
  expect([failure.message, failure.retryAfter]).toEqual(['Loading.', 7])
})

test.each(['<html>502</html>', '[]', 'null', '{"error":{}}', '{"error":null}'])('%j has no message', async (body) => {
  expect((await answer(502, body)).message).toBe('')
})

test('an error that is plain text is a message too', async () => {
  expect((await answer(400, '{"error":"no"}')).message).toBe('no')
})
