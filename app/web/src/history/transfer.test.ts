import { expect, test } from 'vitest'
import { message } from '../chat/testing'
import { NO_SETTINGS } from '../settings/settings'
import type { Conversation } from './repository'
import { fromJson, NotOurs, toJson, toMarkdown } from './transfer'

const asked = message({ id: 'q', content: 'One', attachments: [{ kind: 'text', name: 'a.txt', data: 'A' }] })
const first = message({ id: 'a1', role: 'assistant', parent: 'q', content: 'first', toolCalls: [{ id: '', name: 'f', arguments: '{}' }] })
const second = message({ id: 'a2', role: 'assistant', parent: 'q', content: 'sec', status: 'failed', failure: { kind: 'cut', message: '' } })
const settings = { ...NO_SETTINGS, temperature: 0.5, systemPrompt: 'Be brief.' }
const chat = { id: 'chat', title: 'Title', created: 1, updated: 2, leaf: 'a2', settings, model: 'm' }
const conversation: Conversation = { chat, messages: [asked, first, second] }

test('what was exported comes back whole, with ids of its own', () => {
  const [back] = fromJson(toJson([conversation]))
  expect(back?.chat).toMatchObject({ title: 'Title', created: 1, updated: 2, settings, model: 'm' })
  expect(back?.chat.id).not.toBe('chat')
  const [q, a1, a2] = back?.messages ?? []
  expect(q).toMatchObject({ content: 'One', parent: null, chat: back?.chat.id, attachments: asked.attachments })
  expect(a1).toMatchObject({ content: 'first', parent: q?.id, toolCalls: first.toolCalls })
  expect(a2).toMatchObject({ status: 'failed', parent: q?.id })
  expect(back?.chat.leaf).toBe(a2?.id)
})

test.each([
  ['not JSON', 'x'],
  ['null', 'null'],
  ['another format', '{"format":"other","version":1,"conversations":[]}'],
  ['a later version', '{"format":"bedplate-chats","version":2,"conversations":[]}'],
  ['a broken conversation', '{"format":"bedplate-chats","version":1,"conversations":[null]}'],
  ['an unknown parent', toJson([{ chat, messages: [first] }])],
  ['an unknown role', toJson([conversation]).replace('"role": "user"', '"role": "root"')],
])('%s is refused', (_, text) => {
  expect(() => fromJson(text)).toThrow(NotOurs)
})

test('an image that is no image is left out', () => {
  const evil = { ...asked, attachments: [{ kind: 'image' as const, name: 'x', data: 'https://example.org/x.png' }] }
  expect(fromJson(toJson([{ chat, messages: [evil] }]))[0]?.messages[0]?.attachments).toEqual([])
})

test('Markdown has the shown branch', () => {
  expect(toMarkdown(conversation, { user: 'Q', assistant: 'A' })).toBe('# Title\n\n## Q\n\nOne\n\n## A\n\nsec\n')
})
