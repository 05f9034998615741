import { expect, test } from 'vitest'
import { parseConfig } from './config'

const DEFAULTS = {
  title: 'Bedplate',
  apiBase: '/v1',
  defaultModel: null,
  keyRequired: true,
  systemPrompt: '',
  history: true,
  images: false,
  attachmentBytes: 262_144,
  suggestions: { en: [], zh: [] },
}

test.each([null, {}, [], 'text', { title: 7, apiBase: '', suggestions: 'x', keyRequired: 'no', attachmentBytes: -1 }])('%j gives the defaults', (raw) => {
  expect(parseConfig(raw)).toEqual(DEFAULTS)
})

test('what is given is taken', () => {
  const suggestions = { en: ['What is Bedplate?'], zh: ['Bedplate 是什么？'] }
  const switches = { keyRequired: false, history: false, images: true, attachmentBytes: 10, systemPrompt: 'Be brief.' }
  const given = { title: 'Ours', apiBase: '/llm/v1/', defaultModel: 'tutor', ...switches, suggestions }
  expect(parseConfig(given)).toEqual({ ...given, apiBase: '/llm/v1' })
})
