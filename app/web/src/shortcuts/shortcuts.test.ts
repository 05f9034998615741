import { expect, test } from 'vitest'
import { shortcutOf } from './shortcuts'

const press = (key: string, held: string[] = []) =>
  shortcutOf({
    key,
    ctrlKey: held.includes('ctrl'),
    metaKey: held.includes('meta'),
    shiftKey: held.includes('shift'),
    altKey: held.includes('alt'),
  })

test('shortcuts need Ctrl or ⌘, and exactly the other keys that they name', () => {
  expect(press('k', ['ctrl'])).toBe('search')
  expect(press('k', ['meta'])).toBe('search')
  expect(press('O', ['ctrl', 'shift'])).toBe('new')
  for (const held of [[], ['ctrl', 'shift'], ['ctrl', 'meta'], ['ctrl', 'alt']]) expect(press('k', held)).toBeNull()
  expect(press('o', ['ctrl'])).toBeNull()
  expect(press('x', ['ctrl'])).toBeNull()
})
