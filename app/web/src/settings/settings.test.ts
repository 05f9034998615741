import { expect, test } from 'vitest'
import { NO_SETTINGS, NUMBER_FIELDS, parseSettings, parseTools, PRESETS, requestFields, samplingOf } from './settings'

const TOOLS = '[{"type":"function","function":{"name":"add","parameters":{}}}]'

test('what is not set is not sent', () => {
  expect(requestFields(NO_SETTINGS)).toEqual({})
})

test('what is set is sent under its API name', () => {
  const settings = { ...NO_SETTINGS, temperature: 0, topP: 0.5, maxTokens: 10, seed: 0, tools: TOOLS }
  expect(requestFields(settings)).toEqual({ temperature: 0, top_p: 0.5, max_tokens: 10, seed: 0, tools: JSON.parse(TOOLS) })
})

test('stored settings that are out of range or of the wrong type are left to the server', () => {
  const stored = { temperature: 3, topP: '0.5', maxTokens: 1.5, seed: 7, systemPrompt: 5, tools: '[1]' }
  expect(parseSettings(stored)).toEqual({ ...NO_SETTINGS, seed: 7 })
  expect(parseSettings(null)).toEqual(NO_SETTINGS)
  expect(parseSettings('text')).toEqual(NO_SETTINGS)
})

test('presets are within the ranges', () => {
  for (const [name, preset] of Object.entries(PRESETS)) {
    expect(samplingOf(parseSettings(preset)), name).toEqual(preset)
    for (const field of NUMBER_FIELDS) expect(preset, name).toHaveProperty(field.name)
  }
})

test.each([['{}'], ['[]'], ['[{"type":"function"}]'], ['nonsense']])('%s is no list of tools', (text) => {
  expect(parseTools(text)).toBeNull()
})

test('an empty text means no tools', () => {
  expect(parseTools(' ')).toEqual([])
  expect(parseTools(TOOLS)).toHaveLength(1)
})
