import { expect, test } from 'vitest'
import { catalogues, type TextKey, translator } from './catalogue'

const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort()
const keys = Object.keys(catalogues.en) as TextKey[]

/** Every source of the page, but for the catalogues and the tests. */
const sources = Object.entries(
  import.meta.glob<string>(['../**/*.{ts,tsx}', '!./en.ts', '!./zh.ts', '!../**/*.test.ts'], {
    query: '?raw',
    import: 'default',
    eager: true,
  }),
)

test('both languages have the same texts, none empty, with the same places for values', () => {
  expect(Object.keys(catalogues.zh).sort()).toEqual([...keys].sort())
  for (const key of keys) {
    expect(catalogues.en[key].trim(), key).not.toBe('')
    expect(catalogues.zh[key].trim(), key).not.toBe('')
    expect(places(catalogues.zh[key]), key).toEqual(places(catalogues.en[key]))
  }
})

test('Chinese texts are Chinese and English texts are not', () => {
  const han = /\p{Script=Han}/u
  const sameInBoth = new Set(['key.placeholder', 'failure.status'])
  for (const key of keys.filter((name) => !sameInBoth.has(name))) {
    expect(catalogues.zh[key], key).toMatch(han)
    expect(catalogues.en[key], key).not.toMatch(han)
  }
})

test('every text is used', () => {
  const all = sources.map(([, source]) => source).join('\n')
  const used = (key: string) => all.includes(`'${key}'`) || all.includes(`\`${key.split('.')[0]}.\${`)
  expect(keys.filter((key) => !used(key))).toEqual([])
})

test('no component has a text of its own', () => {
  // JSX text and the attributes that people see or hear; a lone sign such as "…" is no text.
  const spoken = />[^<>{}=;()]*\p{L}{2,}[^<>{}=;()]*<\/|\b(?:title|label|placeholder|alt|aria-label|description)="[^"]*\p{L}/u
  const components = sources.filter(([file]) => file.endsWith('.tsx'))
  expect(components.length).toBeGreaterThan(5)
  expect(components.filter(([, source]) => spoken.test(source)).map(([file]) => file)).toEqual([])
})

test('values are put in their places', () => {
  expect(translator('en')('failure.status', { status: 503 })).toBe('HTTP 503')
})
