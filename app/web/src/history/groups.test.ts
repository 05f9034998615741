import { expect, test } from 'vitest'
import { NO_SETTINGS } from '../settings/settings'
import { grouped } from './groups'
import type { Chat } from './repository'

test('conversations are grouped by the days of the reader, without empty groups', () => {
  const noon = new Date(2026, 5, 15, 12).getTime()
  const chat = (days: number): Chat => {
    const updated = noon - days * 86_400_000
    return { id: String(days), title: '', created: updated, updated, leaf: null, settings: NO_SETTINGS }
  }
  const groups = grouped([chat(0), chat(1), chat(3), chat(5), chat(300)], noon)
  expect(groups.map(([age, chats]) => [age, chats.length])).toEqual([['today', 1], ['yesterday', 1], ['week', 2], ['older', 1]])
  expect(grouped([chat(9)], noon).map(([age]) => age)).toEqual(['older'])
})
