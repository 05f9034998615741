import { expect, test } from 'vitest'
import type { Attachment } from '../attachments/attachment'
import { message } from './testing'
import { turnsOf } from './turns'

const asked = (content: string, attachments: Attachment[] = []) => message({ role: 'user', content, attachments })
const answered = (content: string) => message({ role: 'assistant', content })

test('a question that got no answer is not told to the model again', () => {
  const path = [asked('1'), answered('one'), asked('2'), answered(''), asked('3'), answered('thr'), asked('4')]
  expect(turnsOf(path, '').map((turn) => turn.content)).toEqual(['1', 'one', '3', 'thr', '4'])
})

test('a system prompt comes first, an empty one not at all', () => {
  expect(turnsOf([asked('1')], 'Be brief.')[0]).toEqual({ role: 'system', content: 'Be brief.' })
  expect(turnsOf([asked('1')], '  ')).toHaveLength(1)
})

test('text files are quoted between fences longer than their own', () => {
  const [turn] = turnsOf([asked('Explain', [{ kind: 'text', name: 'a.md', data: '```\ncode\n```\n' }])], '')
  expect(turn?.content).toBe('a.md\n````\n```\ncode\n```\n````\n\nExplain')
})

test('images become parts before the text', () => {
  const [turn] = turnsOf([asked('What is it?', [{ kind: 'image', name: 'a.png', data: 'data:image/png;base64,AA' }])], '')
  expect(turn?.content).toEqual([
    { type: 'image_url', image_url: { url: 'data:image/png;base64,AA' } },
    { type: 'text', text: 'What is it?' },
  ])
})
