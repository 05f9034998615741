import { expect, test } from 'vitest'
import { sseData } from './sse'

/** The events of `text`, arriving in pieces of `size` bytes. */
async function events(text: string, size: number): Promise<string[]> {
  const bytes = new TextEncoder().encode(text)
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size)
  }
  const found: string[] = []
  for await (const data of sseData(pieces())) found.push(data)
  return found
}

const SIZES = [1, 2, 3, 7, 1000]

test.each(SIZES)('data arrives whole, however the bytes are cut (%i at a time)', async (size) => {
  expect(await events('data: {"a":1}\n\ndata:你好\n\n', size)).toEqual(['{"a":1}', '你好'])
})

test.each(SIZES)('CR, LF and CRLF all end a line (%i bytes at a time)', async (size) => {
  expect(await events('data: 1\r\n\r\ndata: 2\r\rdata: 3\n\n', size)).toEqual(['1', '2', '3'])
})

test('comments and other fields are no data', async () => {
  expect(await events(': alive\n\nevent: x\nid: 7\nretry: 10\ndata: 1\n\n', 4)).toEqual(['1'])
})

test('several data lines are one event', async () => {
  expect(await events('data: a\ndata:  b\ndata:\n\n', 5)).toEqual(['a\n b\n'])
})

test('an event that the end cuts off is dropped', async () => {
  expect(await events('data: 1\n\ndata: 2\n', 1000)).toEqual(['1'])
})
